"""Where the frames of records are in a shard, so that a clip reads its own alone.

`prepare_video.py` writes a file beside each shard, with a table for each record: a row
(start in the payload, number of bytes, CRC-32C) for its context, and one for each
frame. It is a TFRecord file itself. Its first record lists the tables, as pairs of
offsets: of a record in the shard, and of its table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import crc32c
import numpy as np
import tensorflow as tf
from absl import logging

from trainers.core import files
from trainers.core.tfrecord_file import FRAMING_BYTES, TFRecordFile
from trainers.video_classification.data.errors import VideoError

_ROW, _PAIR = np.dtype(("<u4", 3)), np.dtype(("<u8", 2))


def table_file(shard: str) -> str:
    """The file of tables beside a shard."""
    return os.path.splitext(shard)[0] + ".frames"


def make_table(payload: bytes) -> bytes:
    """The table of a record."""
    example = tf.train.SequenceExample.FromString(payload)
    rows, end = [], 0
    for piece in _pieces(example):
        start = payload.index(piece, end)
        end = start + len(piece)
        rows.append((start, len(piece), crc32c.crc32c(piece)))
    return np.array(rows, _ROW.base).tobytes()


def _pieces(example: tf.train.SequenceExample) -> Iterator[bytes]:
    yield example.context.SerializeToString(deterministic=True)
    for frame in example.feature_lists.feature_list["image/encoded"].feature:
        yield frame.bytes_list.value[0]


def make_tables(shard: str) -> dict[int, bytes]:
    """The tables of a finished shard, by the offset of the record."""
    file = TFRecordFile(shard, VideoError)
    return {offset: make_table(file.payload(offset)) for offset, _ in file.offsets()}


def write_tables(shard: str, tables: Mapping[int, bytes]) -> None:
    """Writes the file beside a shard.

    Args:
        shard: Its path.
        tables: From `make_table`, by the offset of the record.

    Raises:
        FileError: It cannot be written.
    """
    sizes = [FRAMING_BYTES + len(table) for table in tables.values()]
    first = FRAMING_BYTES + _PAIR.itemsize * len(tables)
    places = np.cumsum([first, *sizes])[:-1] if tables else []
    pairs = np.array(list(zip(tables, places, strict=True)), _PAIR.base)
    with files.replacing(table_file(shard)) as part:
        with tf.io.TFRecordWriter(part) as writer:
            for record in (pairs.tobytes(), *tables.values()):
                writer.write(record)


def read_table(shard: str, offset: int) -> np.ndarray | None:
    """The table of a record, (1 + frames, 3); None if there is none, or a damaged one.

    Args:
        shard: Its path.
        offset: Of the record.
    """
    path = table_file(shard)
    try:
        if not files.exists(path):
            return None
        file = TFRecordFile(path, VideoError)
        pairs = np.frombuffer(file.payload(0), _PAIR)
        (place,) = pairs[pairs[:, 0] == offset, 1].tolist()
        return np.frombuffer(file.payload(place), _ROW)
    except (VideoError, files.FileError, ValueError) as error:
        reason = getattr(error, "reason", error)
        message = "%s: %s. Whole records are read instead; prepare_video.py writes it."
        logging.log_first_n(logging.WARNING, message, 1, path, reason)
        return None
