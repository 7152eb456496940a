"""The JSON files of `trainers/prepare_video.py`, and the list of a shard's videos.

Each shard has a sidecar, so that it is listed without being read. JSON files have a
checksum of their content.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator

import tensorflow as tf
from absl import logging
from google.protobuf.message import DecodeError

from trainers.core import files
from trainers.core.tfrecord_file import TFRecordFile
from trainers.video_classification.data.errors import DataError, VideoError
from trainers.video_classification.data.tfrecords.records import (
    is_later_part,
    read_actions,
)

_CHECKSUM = "checksum"
_KEYS = {"records", "fingerprint", "class_names"}
_WRITE_AGAIN = "Write it again with prepare_video.py, which keeps finished shards."
_CONTEXT_TAG = 0x0A  # field 1 of SequenceExample


@dataclasses.dataclass(frozen=True)
class ShardRecord:
    """A video of a shard: its offset in bytes, its name, its labels and actions."""

    offset: int
    name: str
    labels: tuple[int, ...]
    actions: tuple[tuple[int, float, float], ...] = ()

    def row(self) -> list:
        """As a sidecar has it: without actions if there are none."""
        row = [self.offset, self.name, self.labels]
        return [*row, self.actions] if self.actions else row

    @classmethod
    def from_row(cls, offset, name, labels, actions=()) -> ShardRecord:
        return cls(offset, name, tuple(labels), tuple(map(tuple, actions)))


# === JSON files ===


def sidecar(shard: str) -> str:
    """The JSON file beside a shard."""
    return os.path.splitext(shard)[0] + ".json"


def write_checked(path: str, content: dict) -> None:
    """Writes a JSON file with a checksum of its content."""
    files.write_json(path, content | {_CHECKSUM: _digest(content)})


def read_checked(path: str) -> dict:
    """Reads a file of `write_checked`.

    Raises:
        FileError: It cannot be read, or is damaged.
        DataError: It was written by another program.
    """
    try:
        content = files.read_json(path)
    except files.FileError as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        raise files.FileError(path, f"{error.reason} {_WRITE_AGAIN}") from error
    if not isinstance(content, dict) or not _KEYS & content.keys():
        raise DataError(
            f"{path}: was not written by prepare_video.py. Remove it, or move the "
            "shards to a folder of their own."
        )
    digest = _digest(content)
    if content.pop(_CHECKSUM, None) != digest:
        raise files.FileError(
            path,
            "the checksum is missing or does not match: the file is damaged. "
            f"{_WRITE_AGAIN}",
        )
    return content


def _digest(content: dict) -> str:
    others = {key: value for key, value in content.items() if key != _CHECKSUM}
    text = json.dumps(others, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_class_names(folder: str, shards: list[str]) -> list[str] | None:
    """The class names of shards, in label order; None if no file lists them.

    They are in `index.json`, and again in every sidecar.

    Raises:
        FileError: The files that list them are damaged.
        DataError: They were written by another program.
    """
    problem = None
    for path in (files.join(folder, "index.json"), *map(sidecar, shards)):
        if not files.exists(path):
            continue
        try:
            names = _read_list(path, "class_names", _is_name)
        except (files.FileError, DataError) as error:
            problem = problem or error
            continue
        if problem:
            logging.warning("%s The class names in %s are used instead.", problem, path)
        return names
    if problem:
        raise problem
    return None


def _read_list(path: str, key: str, is_valid: Callable) -> list:
    values = read_checked(path).get(key)
    if not isinstance(values, list) or not all(map(is_valid, values)):
        raise DataError(f"{path}: has no {key!r} as prepare_video.py writes them.")
    return values


def _is_name(value) -> bool:
    return isinstance(value, str)


def _is_row(value) -> bool:
    """Whether a value is (offset, name, labels) or (offset, name, labels, actions)."""
    match value:
        case [int(offset), str(), [*labels]]:
            return offset >= 0 and all(isinstance(label, int) for label in labels)
        case [offset, name, labels, [*actions]]:
            return _is_row([offset, name, labels]) and all(map(_is_action, actions))
    return False


def _is_action(value) -> bool:
    match value:
        case [int(), int() | float(), int() | float()]:
            return True
    return False


# === The videos of a shard ===


def list_shard(shard: str) -> list[ShardRecord]:
    """The videos of a shard: from its sidecar, or else from the records themselves.

    Of the records, no checksums but those of the lengths are checked: that is done
    when they are read.

    Raises:
        VideoError: Not a TFRecord file of SequenceExamples, or damaged.
    """
    records = read_sidecar(shard)
    return list(_scan(shard)) if records is None else records


def read_sidecar(shard: str) -> list[ShardRecord] | None:
    """The videos of a shard by its sidecar; None if that is missing or damaged."""
    beside = sidecar(shard)
    if not files.exists(beside):
        return None
    try:
        rows = _read_list(beside, "records", _is_row)
    except (files.FileError, DataError) as error:
        logging.warning("%s The records of the shard are listed instead.", error)
        return None
    return [ShardRecord.from_row(*row) for row in rows]


def _scan(shard: str) -> Iterator[ShardRecord]:
    file = TFRecordFile(shard, VideoError)
    for offset, length in file.offsets():
        context = _context(file, offset, length)
        if context is not None and not is_later_part(context.feature):
            yield _shard_record(shard, offset, context)
    file.close()


def _context(file: TFRecordFile, offset: int, length: int) -> tf.train.Features | None:
    """The context of a record; None, with a warning, if it cannot be read."""
    try:
        return _read_context(file, offset, length)
    except DecodeError as error:
        try:
            file.payload(offset)
        except VideoError as damage:
            logging.warning("Left out a broken video, %s", damage)
            return None
        where = f"{file.path}#{offset}"
        raise VideoError(where, "is not a SequenceExample") from error


def _shard_record(shard: str, offset: int, context) -> ShardRecord:
    labels = context.feature["clip/label/index"].int64_list.value
    names = context.feature["clip/media_id"].bytes_list.value
    name = (
        names[0].decode(errors="replace")
        if names
        else f"{os.path.basename(shard)}#{offset}"
    )
    return ShardRecord(offset, name, tuple(labels), read_actions(context.feature))


def _read_context(file: TFRecordFile, offset: int, length: int) -> tf.train.Features:
    """Reads the context, which protobuf writes first, without the frames."""
    head = file.piece(offset, 0, min(length, 11))
    if not head or head[0] != _CONTEXT_TAG:
        example = file.piece(offset, 0, length)
        return tf.train.SequenceExample.FromString(example).context
    size, start = _varint(head, 1)
    return tf.train.Features.FromString(
        file.piece(offset, 0, min(start + size, length))[start:]
    )


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """(value, position after it) of a protobuf varint."""
    value = shift = 0
    for position in range(start, len(data)):
        value |= (data[position] & 0x7F) << shift
        shift += 7
        if data[position] < 0x80:
            return value, position + 1
    return 0, len(data)
