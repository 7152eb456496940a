"""TFRecord shards, as `trainers/prepare_video.py` writes them."""

import os

from absl import logging

from trainers.core import files
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.index_formats.listing import Entry, Listing
from trainers.video_classification.data.tfrecords.shard_sets import missing_shards
from trainers.video_classification.data.tfrecords.sidecars import (
    ShardRecord,
    list_shard,
    read_class_names,
    read_sidecar,
)

_MAX_NAMED = 5


def read_tfrecord(path: str, data) -> Listing:
    """Reads a folder of shards, or a glob, without decoding frames.

    The class names are in the JSON files beside the shards; shards of other programs
    have none. Shards that are missing from a numbered set are named in a warning, and
    their videos are `missing`.

    Raises:
        DataError: No shard, or a file that is not a TFRecord.
    """
    del data
    pattern = files.join(path, "*.tfrecord") if files.is_folder(path) else path
    shards = sorted(s for s in files.glob(pattern) if s.endswith(".tfrecord"))
    missing = _missing_shards(shards, pattern)
    if not shards:
        found = f" {_describe(missing)}" if missing else ""
        raise DataError(f"{path}: no shards (*.tfrecord) found.{found}")
    if missing:
        logging.warning("%s: %s", path, _describe(missing))
    names = read_class_names(os.path.dirname(shards[0]), [*shards, *missing])
    entries = [_entry(shard, r, names) for shard in shards for r in list_shard(shard)]
    return Listing(entries, names, tuple(p for s in missing for p in _paths(s)))


def _missing_shards(shards: list[str], pattern: str) -> list[str]:
    """Those that match the pattern, in the folders of the others."""
    name = os.path.basename(pattern)
    folders = dict.fromkeys(map(os.path.dirname, shards or [pattern]))
    return [
        files.join(folder, missing)
        for folder in folders
        if files.is_folder(folder or ".")
        for missing in missing_shards(files.listdir(folder or "."), name)
    ]


def _describe(missing: list[str]) -> str:
    more = ", ..." if len(missing) > _MAX_NAMED else ""
    return (
        f"missing shards ({len(missing)}): {', '.join(missing[:_MAX_NAMED])}{more}. "
        "Restore them, or write them again with prepare_video.py, which keeps "
        "finished shards."
    )


def _paths(missing: str) -> list[str]:
    """The videos of a missing shard, as far as they are known; else the shard."""
    records = read_sidecar(missing)
    return [missing] if records is None else [f"{missing}#{r.offset}" for r in records]


def _entry(shard: str, record: ShardRecord, names: list[str] | None) -> Entry:
    # By name if there are names: a class may be named "1" and have number 0.
    where = f"{shard}#{record.offset}"
    numbers = (*record.labels, *(label for label, *_ in record.actions))
    if names and any(not 0 <= i < len(names) for i in numbers):
        raise DataError(
            f"{where}: has labels {numbers}; index.json beside it names "
            f"{len(names)} classes, numbered from 0."
        )
    name_of = names.__getitem__ if names else str
    labels = tuple(map(name_of, record.labels))
    actions = tuple((name_of(label), *times) for label, *times in record.actions)
    return Entry(where, labels, record.name, where, actions)
