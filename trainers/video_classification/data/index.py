"""The list of videos and their labels, whatever form it comes in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import logging

from trainers.video_classification.data import files, indexes
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.labels import (
    LabelTable,
    infer_class_names,
    read_class_file,
)
from trainers.video_classification.data.reading import check_decoder

if TYPE_CHECKING:
    from trainers.video_classification.configs import DataConfig

_MAX_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Record:
    """One video: where it is, its label numbers, and a name for reports."""

    path: str
    labels: tuple[int, ...]
    name: str


@dataclasses.dataclass(frozen=True)
class Index:
    """All videos of a data set.

    Attributes:
        records: The videos that are there.
        class_names: In label order.
        format: The `index_format` it was read as.
        path: What it was read from.
        missing: Paths that the index lists but that do not exist.
    """

    records: tuple[Record, ...]
    class_names: tuple[str, ...]
    format: str
    path: str
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.records)


def load_index(data: DataConfig, class_names: Sequence[str] | None = None) -> Index:
    """Reads the index that `data` names.

    Args:
        data: `input_path`, `index_format`, `video_root`, `class_file`, `split`
            and `is_multilabel` are used.
        class_names: Of the model, in label order: labels are mapped through
            them. None: taken from `class_file`, else from the index itself.

    Raises:
        DataError: It cannot be read, a label is unknown or out of range, a class
            folder is empty, or not one of the videos exists. The message names
            the file and the line.
    """
    path = data.input_path
    if not isinstance(path, str) or not path:
        raise DataError(
            f"`input_path` must name an index file, a folder or a glob of shards. "
            f"Received: {path!r}."
        )
    check_decoder(data.decoder)  # tensorflow-io brings file systems, too
    form = indexes.detect(path) if data.index_format == "auto" else data.index_format
    if form not in indexes.READERS:
        raise DataError(
            "Unknown `index_format`. Expected one of "
            f"{('auto', *indexes.READERS)}. Received: {form!r}."
        )
    listing = indexes.READERS[form](path, data)
    if not listing.entries:
        raise DataError(f"{path}: lists no videos (read as {form!r}).")
    names = _class_names(listing, data, class_names)
    records = _resolve(listing.entries, LabelTable(names), data.is_multilabel)
    present, missing = _split_missing(records)
    if not present:
        raise DataError(_nothing_found(path, missing, data))
    if missing:
        _log_missing(path, missing, len(records))
    return Index(present, tuple(names), form, path, missing)


def _class_names(listing, data, given) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    if data.class_file:
        return read_class_file(data.class_file)
    if listing.class_names is not None:
        return tuple(listing.class_names)
    return infer_class_names(label for e in listing.entries for label in e.labels)


def _resolve(entries, table: LabelTable, is_multilabel: bool) -> list[Record]:
    records = []
    for entry in entries:
        if not is_multilabel and len(entry.labels) != 1:
            raise DataError(
                f"{entry.where}: has {len(entry.labels)} labels; expected one. Set "
                "`is_multilabel: true` if a video may have several, or none."
            )
        labels = {table.number(label, entry.where): None for label in entry.labels}
        records.append(Record(entry.path, tuple(labels), entry.name))
    return records


def _split_missing(records) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    present, missing = [], []
    for record in records:
        # Asking a remote store about every file takes hours: one stands for all.
        is_asked = not (files.is_remote(record.path) and (present or missing))
        if files.is_record(record.path) or not is_asked or files.exists(record.path):
            present.append(record)
        else:
            missing.append(record.path)
    return tuple(present), tuple(missing)


def _log_missing(path: str, missing: Sequence[str], total: int) -> None:
    logging.warning(
        "%s: %d of the %d videos listed do not exist and are left out: %s%s",
        path,
        len(missing),
        total,
        ", ".join(missing[:_MAX_NAMED]),
        ", ..." if len(missing) > _MAX_NAMED else "",
    )


def _nothing_found(path: str, missing: Sequence[str], data: DataConfig) -> str:
    return (
        f"{path}: not one of the {len(missing)} videos listed exists; the first is "
        f"{missing[0]}. Relative paths start from `video_root` "
        f"({data.video_root!r}), or from the folder of the index where that is empty."
    )
