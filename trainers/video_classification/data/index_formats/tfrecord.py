"""TFRecord shards, as `trainers/prepare_video.py` writes them."""

import os

from trainers.core import files
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.index_formats.listing import Entry, Listing
from trainers.video_classification.data.tfrecords.sidecars import (
    ShardRecord,
    list_shard,
    read_class_names,
)


def read_tfrecord(path: str, data) -> Listing:
    """Reads a folder of shards, or a glob, without decoding frames.

    The class names are in the JSON files beside the shards; shards of other programs
    have none.

    Raises:
        DataError: No shard, or a file that is not a TFRecord.
    """
    del data
    pattern = files.join(path, "*.tfrecord") if files.is_folder(path) else path
    shards = sorted(s for s in files.glob(pattern) if s.endswith(".tfrecord"))
    if not shards:
        raise DataError(f"{path}: no shards (*.tfrecord) found.")
    names = read_class_names(os.path.dirname(shards[0]), shards)
    entries = [_entry(shard, r, names) for shard in shards for r in list_shard(shard)]
    return Listing(entries, names)


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
