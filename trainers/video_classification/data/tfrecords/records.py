"""Records of JPEG frames, with the Model Garden's feature names.

A record is a `tf.train.SequenceExample`: `image/encoded` has the frames, the context
all else. A video is addressed by the offset of its record in the shard, so that
training reads videos in any order and resumes at once, as with video files.

The frames of a long video are split: its parts are records of their own, that follow
each other in the shard. Each has the context of the video, and in addition:

- in the first, `parts/num_frames` and `parts/num_bytes` of every later part,
- in these, `parts/number`: 1, 2, ...

A video whose frames are not evenly spaced has `video/timestamps` (microseconds) in its
first part, with one value per frame.

A video whose actions have times has `actions/label`, `actions/start` and `actions/end`
(microseconds), each with one value per action.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import crc32c
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from trainers.core.tfrecord_file import (
    FRAMING_BYTES,
    TFRecordFile,
)
from trainers.video_classification.data.cropping import ArrayPicture
from trainers.video_classification.data.errors import VideoError
from trainers.video_classification.data.images import decode_image, jpeg_size
from trainers.video_classification.data.limits import DEFAULT_LIMITS, too_much
from trainers.video_classification.data.tfrecords.frame_tables import (
    read_table,
    table_file,
)
from trainers.video_classification.data.tfrecords.video_frames import JpegVideo

PART_BYTES = 32 << 20  # of the frames in a record; a reader holds two records
_ACTIONS = "actions/label", "actions/start", "actions/end"  # times in microseconds
_TIMES = "video/timestamps"
_NUMBER, _NUM_FRAMES, _NUM_BYTES = "parts/number", "parts/num_frames", "parts/num_bytes"

# === Write ===


def make_context(
    video: JpegVideo,
    labels: Sequence[int] = (),
    class_names: Sequence[str] = (),
    name: str = "",
    actions: Sequence[tuple[int, float, float]] = (),
) -> tf.train.Features:
    """All of a record but its frames.

    Args:
        video: Its frames are not used.
        labels: Label numbers.
        class_names: In label order.
        name: Of the video, for reports.
        actions: (label, start, end) in seconds.
    """
    context = tf.train.Features()
    feature = context.feature
    feature["clip/label/index"].int64_list.value.extend(labels)
    feature["clip/label/string"].bytes_list.value.extend(
        class_names[label].encode() for label in labels
    )
    feature["clip/media_id"].bytes_list.value.append(name.encode())
    feature["image/format"].bytes_list.value.append(b"JPEG")
    feature["image/height"].int64_list.value.append(video.size[0])
    feature["image/width"].int64_list.value.append(video.size[1])
    feature["image/frame_rate"].float_list.value.append(video.frame_rate)
    for label, *times in actions:
        micros = (round(time * 1e6) for time in times)
        for key, value in zip(_ACTIONS, (label, *micros), strict=True):
            feature[key].int64_list.value.append(value)
    return context


def read_actions(context) -> tuple[tuple[int, float, float], ...]:
    """(label, start, end) in seconds of each action in a record's features."""
    values = (context[key].int64_list.value for key in _ACTIONS)
    return tuple(
        (label, start / 1e6, end / 1e6)
        for label, start, end in zip(*values, strict=False)
    )


def make_records(
    video: JpegVideo, context: tf.train.Features, part_bytes: int = PART_BYTES
) -> Iterator[bytes]:
    """The serialised records of a video: one, or one for each part.

    Args:
        video: The frames.
        context: From `make_context`.
        part_bytes: A video with more bytes of frames is split.
    """
    first, *later = video.parts(part_bytes)

    def serialized_later(number: int) -> bytes:
        own = tf.train.Features()
        own.CopyFrom(context)
        own.feature[_NUMBER].int64_list.value.append(number)
        return _serialize(own, video.frames(later[number - 1]))

    numbers = range(1, len(later) + 1)
    head = tf.train.Features()
    head.CopyFrom(context)
    if video.times is not None:
        head.feature[_TIMES].int64_list.value.extend(video.times.tolist())
    if later:
        sizes = (FRAMING_BYTES + len(serialized_later(number)) for number in numbers)
        head.feature[_NUM_BYTES].int64_list.value.extend(sizes)
        head.feature[_NUM_FRAMES].int64_list.value.extend(map(len, later))
    yield _serialize(head, video.frames(first))
    yield from map(serialized_later, numbers)


def _serialize(context: tf.train.Features, frames: Iterable[bytes]) -> bytes:
    example = tf.train.SequenceExample(context=context)
    encoded = example.feature_lists.feature_list["image/encoded"]
    for frame in frames:
        encoded.feature.add().bytes_list.value.append(frame)
    return example.SerializeToString(deterministic=True)


# === Read ===


class RecordFrames:
    """The frames of a video, whose path is `shard.tfrecord#offset`.

    Only those wanted are read, if the shard has `frame_tables` and they are no more
    than half of the video. All that is read is checked against a checksum.

    Args:
        path: Of its record, or of its first part.
        max_pixels: A video with larger frames is refused; single ones are lost.

    Attributes:
        context: The features of the record, by name.
        num_frames: Of all parts.
        frame_rate: Average; 0 if unknown.

    Raises:
        VideoError: The record is damaged, or has too large frames.
    """

    def __init__(self, path: str, max_pixels: int = DEFAULT_LIMITS.pixels):
        self.path, self._max_pixels = path, max_pixels
        self._shard, _, offset = path.rpartition("#")
        self._file = TFRecordFile(self._shard, VideoError, int(offset))
        self._first = self._open(int(offset))
        self.context = self._first.context
        rate = self.context["image/frame_rate"].float_list.value
        self.frame_rate = rate[0] if rate else 0.0
        end = self._first.end
        self._offsets, counts = _later_parts(path, self.context, end, self._file)
        self._starts = np.cumsum([0, self._first.num_frames, *counts]).tolist()
        self.num_frames = self._starts[-1]
        if not self._first.num_frames:
            raise VideoError(path, "has no frames under `image/encoded`")
        self.times = _read_times(path, self.context, self.num_frames)
        height, width = self._first.size
        if height * width > max_pixels:
            found = f"has frames of {width} x {height} pixels"
            raise too_much(path, found, "pixels", max_pixels)

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, ArrayPicture]]:
        is_whole = 2 * len(wanted) > self.num_frames
        if is_whole:
            self._first.read_whole()
        loaded, part = 0, self._first
        for frame in map(int, wanted):
            number = bisect.bisect_right(self._starts, frame) - 1
            if number != loaded:
                loaded, part = number, self._part(number, is_whole)
            image = part.image(frame - self._starts[number], self._max_pixels)
            if image is not None:
                yield frame, ArrayPicture(image)

    def _open(self, offset: int, is_whole: bool = False) -> _Part:
        table = None if is_whole else read_table(self._shard, offset)
        return _Part(self.path, self._file, offset, table)

    def _part(self, number: int, is_whole: bool) -> _Part:
        if number == 0:
            return self._first
        part = self._open(self._offsets[number - 1], is_whole)
        is_ours = list(part.context[_NUMBER].int64_list.value) == [number]
        num_frames = self._starts[number + 1] - self._starts[number]
        if not is_ours or part.name != self._first.name:
            raise VideoError(self.path, f"part {number} is of another video")
        if part.num_frames != num_frames:
            raise VideoError(self.path, f"part {number} has not {num_frames} frames")
        return part


class _Part:
    """The frames of one record.

    Args:
        path: Of the video, for errors.
        file: The shard.
        offset: Of the record.
        table: Where its context and its frames are. If it is None, or does not match
            them, the whole record is read.

    Attributes:
        context: The features of the record, by name.
        num_frames: How many it has.
        end: Of the record in the shard.
    """

    def __init__(
        self, path: str, file: TFRecordFile, offset: int, table: np.ndarray | None
    ):
        self._path, self._file, self._offset = path, file, offset
        self._frames = None  # until the whole record is read
        self.end = offset + FRAMING_BYTES + file.length(offset)
        self._table = table
        content = self._piece(0)
        if content is None:
            self._table = None
            self.read_whole()
        else:
            self._set_context(tf.train.Features.FromString(content))
            self.num_frames = len(table) - 1

    def _piece(self, row: int) -> bytes | None:
        """The bytes of a row of the table; None if they do not match it."""
        if self._table is None:
            return None
        start, num_bytes, checksum = self._table[row].tolist()
        content = self._file.piece(self._offset, start, num_bytes)
        return content if crc32c.crc32c(content) == checksum else None

    def read_whole(self) -> None:
        """Reads the record, unless that is done, and checks its checksum."""
        if self._frames is not None:
            return
        payload = self._file.payload(self._offset)
        try:
            example = tf.train.SequenceExample.FromString(payload)
        except DecodeError as error:
            raise VideoError(self._path, "is not a SequenceExample") from error
        self._set_context(example.context)
        self._frames = example.feature_lists.feature_list["image/encoded"].feature
        if self._table is not None and len(self._frames) != self.num_frames:
            beside = table_file(self._file.path)
            raise VideoError(self._path, f"{beside} is of another shard: remove it")
        self._table, self.num_frames = None, len(self._frames)

    def _set_context(self, context: tf.train.Features) -> None:
        self.context = context.feature
        self._stated_size = tuple(
            value
            for key in ("image/height", "image/width")
            for value in self.context[key].int64_list.value[:1]
        )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), as the record states it, or else its first frame."""
        if len(self._stated_size) == 2:
            return self._stated_size
        return jpeg_size(self._encoded(0)) or (0, 0)

    @property
    def name(self) -> bytes:
        return b"".join(self.context["clip/media_id"].bytes_list.value[:1])

    def image(self, number: int, max_pixels: int) -> np.ndarray | None:
        """RGB pixels of a frame; None if it is lost."""
        encoded = self._encoded(number)
        size = jpeg_size(encoded)
        if size is None or math.prod(size) > max_pixels:
            return None
        if size != self._stated_size and self._has_frames_of_stated_size:
            return None
        return decode_image(encoded)

    @functools.cached_property
    def _has_frames_of_stated_size(self) -> bool:
        """False in records whose frames were scaled after their size was recorded."""
        sizes = (jpeg_size(self._encoded(n)) for n in range(self.num_frames))
        return self._stated_size in sizes

    def _encoded(self, number: int) -> bytes:
        piece = self._piece(number + 1)
        if piece is not None:
            return piece
        self.read_whole()
        return b"".join(self._frames[number].bytes_list.value[:1])


def _read_times(path: str, context, num_frames: int) -> np.ndarray | None:
    """The times of the frames; None if they are evenly spaced."""
    times = np.array(context[_TIMES].int64_list.value)
    if not len(times):
        return None
    if len(times) != num_frames or (np.diff(times) <= 0).any():
        raise VideoError(path, "the times of its frames are not one for each, in order")
    return times


def is_later_part(context) -> bool:
    """Whether a record continues the video of one before it."""
    return bool(context[_NUMBER].int64_list.value)


def _later_parts(path: str, context, start: int, file: TFRecordFile):
    """The offsets and the numbers of frames of the later parts, if there are any."""
    if is_later_part(context):
        raise VideoError(
            path, "is a later part of a video: its first part has the path"
        )
    sizes = context[_NUM_BYTES].int64_list.value
    counts = context[_NUM_FRAMES].int64_list.value
    is_sound = len(sizes) == len(counts) and all(map(_is_count, counts, sizes))
    if not is_sound or start + sum(sizes) > file.num_bytes:
        raise VideoError(path, "its later parts are cut short")
    return [start + before for before in accumulate(sizes, initial=0)][:-1], counts


def _is_count(num_frames: int, num_bytes: int) -> bool:
    return 0 < num_frames <= num_bytes
