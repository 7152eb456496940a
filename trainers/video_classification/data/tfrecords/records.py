"""Records of JPEG frames, with the Model Garden's feature names.

A record is a `tf.train.SequenceExample`: `image/encoded` has the frames, the context
all else. Records are addressed by their offset in the shard, so that training reads
them in any order and resumes at once, as with video files.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from trainers.core import files
from trainers.video_classification.data.cropping import ArrayPicture
from trainers.video_classification.data.errors import DataError, VideoError

_HEADER = struct.Struct("<QI")  # length of the payload, its checksum
_FOOTER_BYTES = 4
_REMOVE = "Remove it, or move the shards to a folder of their own."
_CONTEXT_TAG = 0x0A  # field 1 of SequenceExample


@dataclasses.dataclass(frozen=True)
class ShardRecord:
    """A record of a shard: its offset in bytes, its name and its labels."""

    offset: int
    name: str
    labels: tuple[int, ...]


def make_example(
    frames: Sequence[bytes],
    size: tuple[int, int],
    frame_rate: float,
    labels: Sequence[int] = (),
    class_names: Sequence[str] = (),
    name: str = "",
) -> tf.train.SequenceExample:
    """Makes a record of JPEG frames.

    Args:
        frames: Encoded.
        size: (height, width).
        frame_rate: Average; 0 if unknown.
        labels: Label numbers.
        class_names: In label order.
        name: Of the video, for reports.
    """
    example = tf.train.SequenceExample()
    context = example.context.feature
    context["clip/label/index"].int64_list.value.extend(labels)
    context["clip/label/string"].bytes_list.value.extend(
        class_names[label].encode() for label in labels
    )
    context["clip/media_id"].bytes_list.value.append(name.encode())
    context["image/format"].bytes_list.value.append(b"JPEG")
    context["image/height"].int64_list.value.append(size[0])
    context["image/width"].int64_list.value.append(size[1])
    context["image/frame_rate"].float_list.value.append(frame_rate)
    encoded = example.feature_lists.feature_list["image/encoded"]
    for frame in frames:
        encoded.feature.add().bytes_list.value.append(frame)
    return example


class RecordFrames:
    """The frames of a record, whose path is `shard.tfrecord#offset`."""

    def __init__(self, path: str):
        self.path = path
        shard, _, offset = path.rpartition("#")
        example = _parse(path, _payload(path, shard, int(offset)))
        self.context = example.context.feature
        self.frame_rate = _frame_rate(self.context)
        self._frames = example.feature_lists.feature_list["image/encoded"].feature
        self.num_frames = len(self._frames)
        if not self.num_frames:
            raise VideoError(path, "has no frames under `image/encoded`")

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, ArrayPicture]]:
        for number in map(int, wanted):
            encoded = b"".join(self._frames[number].bytes_list.value[:1])
            jpeg = np.frombuffer(encoded, np.uint8)
            image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB) if jpeg.size else None
            if image is not None:
                yield number, ArrayPicture(image)


def _frame_rate(context) -> float:
    rates = context["image/frame_rate"].float_list.value
    return rates[0] if rates else 0.0


def list_shard(shard: str) -> list[ShardRecord]:
    """The records of a shard, from its JSON file or else from their contexts.

    Raises:
        DataError: Not a TFRecord file of SequenceExamples, or a JSON file that does
            not describe one.
    """
    beside = sidecar(shard)
    if tf.io.gfile.exists(beside):
        records = read_field(beside, "records")
        try:
            return [ShardRecord(int(r[0]), r[1], tuple(r[2])) for r in records]
        except (TypeError, ValueError, LookupError) as error:
            raise DataError(
                f"{beside}: its records are not (offset, name, labels). Remove the "
                "file: the shard itself is then read."
            ) from error
    return list(_scan(shard))


def read_field(path: str, key: str):
    """Reads the value of `key` in a JSON file of `trainers/prepare_video.py`.

    Raises:
        FileError: It is damaged, or has no such key.
    """
    try:
        content = files.read_json(path)
    except files.FileError as error:
        raise files.FileError(path, f"{error.reason} {_REMOVE}") from error
    if not isinstance(content, dict) or key not in content:
        raise files.FileError(
            path, f"has no {key!r}: it was not written by prepare_video.py. {_REMOVE}"
        )
    return content[key]


def sidecar(shard: str) -> str:
    """The JSON file beside a shard, which lists its records."""
    return os.path.splitext(shard)[0] + ".json"


def _scan(shard: str) -> Iterator[ShardRecord]:
    with tf.io.gfile.GFile(shard, "rb") as file:
        end, offset = file.size(), 0
        while offset < end:
            file.seek(offset)
            header = file.read(_HEADER.size)
            length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else end
            following = offset + _HEADER.size + length + _FOOTER_BYTES
            if following > end:
                raise DataError(
                    f"{shard}: record at byte {offset} is cut short, or this is not "
                    "a TFRecord file."
                )
            try:
                context = _read_context(file, length)
            except DecodeError as error:
                raise DataError(
                    f"{shard}: record at byte {offset} is not a SequenceExample."
                ) from error
            yield _shard_record(shard, offset, context)
            offset = following


def _shard_record(shard: str, offset: int, context) -> ShardRecord:
    labels = context.feature["clip/label/index"].int64_list.value
    names = context.feature["clip/media_id"].bytes_list.value
    name = (
        names[0].decode(errors="replace")
        if names
        else f"{os.path.basename(shard)}#{offset}"
    )
    return ShardRecord(offset, name, tuple(labels))


def _read_context(file, length: int) -> tf.train.Features:
    """Reads the context, which protobuf writes first, without the frames."""
    head = file.read(min(length, 11))
    if not head or head[0] != _CONTEXT_TAG:
        example = head + file.read(length - len(head))
        return tf.train.SequenceExample.FromString(example).context
    size, start = _varint(head, 1)
    left = min(start + size, length) - len(head)
    body = head[start:] + file.read(max(left, 0))
    return tf.train.Features.FromString(body[:size])


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """(value, position after it) of a protobuf varint."""
    value = shift = 0
    for position in range(start, len(data)):
        value |= (data[position] & 0x7F) << shift
        shift += 7
        if data[position] < 0x80:
            return value, position + 1
    return 0, len(data)


def _payload(path: str, shard: str, offset: int) -> bytes:
    try:
        with tf.io.gfile.GFile(shard, "rb") as file:
            file.seek(offset)
            length = _HEADER.unpack(file.read(_HEADER.size))[0]
            # TensorFlow crashes if more bytes are requested than the file has.
            if offset + _HEADER.size + length + _FOOTER_BYTES <= file.size():
                return file.read(length)
    except (tf.errors.OpError, OSError, struct.error) as error:
        raise VideoError(path, f"cannot be read ({error})") from error
    raise VideoError(path, "the record is damaged or cut short")


def _parse(path: str, payload: bytes) -> tf.train.SequenceExample:
    try:
        return tf.train.SequenceExample.FromString(payload)
    except DecodeError as error:
        raise VideoError(path, "is not a SequenceExample") from error
