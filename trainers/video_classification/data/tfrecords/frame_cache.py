"""Videos kept as JPEG frames in a folder, so that each is decoded once.

The whole video is kept, before any random choice: start, short side, position and
flip are drawn anew in every epoch. Frames always come out of the cache, the first
time too, and those of videos that cannot be kept are encoded as well: pixels do not
depend on when an entry was written, so that a resumed run makes the batches of an
uninterrupted one.
"""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from absl import logging

from trainers.core import files
from trainers.video_classification.data.cropping import ArrayPicture
from trainers.video_classification.data.errors import DataError, VideoError
from trainers.video_classification.data.limits import DEFAULT_LIMITS, Limits
from trainers.video_classification.data.tfrecords.cache_room import (
    CacheRoom,
    EntryTooLarge,
)
from trainers.video_classification.data.tfrecords.records import (
    PART_BYTES,
    RecordFrames,
    make_context,
    make_records,
)
from trainers.video_classification.data.tfrecords.video_frames import (
    SingleFrames,
    encode_video,
)

_QUALITY = 95  # of JPEG: 40 dB and more, with eight times the bytes of H.264
_VERSION = 2  # of the content of an entry
_STAMP = "cache/stamp"
_NO_ROOM = (errno.EROFS, errno.ENOSPC, errno.EDQUOT)
_ABANDONED = 600  # seconds; an entry that was encoded is written in less


class FrameCache:
    """A folder with one entry per video: a TFRecord of its JPEG frames.

    An entry appears under its name when it is complete. It records the state (time
    and size) of the video it was made from: if that has changed, or the entry is
    damaged or removed, it is written again. Any number of processes may share the
    folder. Where no entry can be written (disk full or read-only) those that are
    there are used, and other videos decoded each time they are read.

    Args:
        folder: Local or remote; created if it does not exist.
        short_side: Frames with a larger one are scaled down to it.
        max_gib: Size of all entries; the oldest are removed first. 0: as much as
            leaves 10 % of the disk free; remote folders have no limit.
        part_bytes: A video with more bytes of frames is split into several records.
        limits: Of what reading one video may cost.

    Raises:
        DataError: The folder cannot be created, on a disk that could be written to.
    """

    def __init__(
        self,
        folder: str,
        short_side: int,
        max_gib: float = 0.0,
        part_bytes: int = PART_BYTES,
        limits: Limits = DEFAULT_LIMITS,
    ):
        self._folder, self._short_side = folder, short_side
        self._part_bytes, self._limits = part_bytes, limits
        self._room = CacheRoom(folder, max_gib)
        self._lock = threading.Lock()  # held while an entry is written
        self._too_large: set[str] = set()
        self._is_writable = True
        try:
            files.make_folder(folder)
            with files.errors(folder, "cannot be listed"):
                files.remove_parts(folder, unused_for=_ABANDONED)
        except files.FileError as error:
            if _errno(error) in _NO_ROOM:
                self._stop_writing(error)
                return
            raise DataError(
                f"`frame_cache` ({folder}): {error.reason} Name another folder, or "
                "leave it empty."
            ) from error

    def open(self, path: str, warn: Callable[[str, str], None]):
        """The frames (`Frames`) of a video, which is decoded and kept if it is not yet.

        Args:
            path: The video.
            warn: Called with the path and a description if frames are damaged,
                when the video is decoded.

        Raises:
            VideoError: It cannot be decoded; nothing is kept.
        """
        entry, stamp = self._entry(path), _stamp(path)
        frames = self._read(entry, stamp)
        if frames is None and self._write(path, entry, stamp, warn):
            frames = self._read(
                entry, stamp
            )  # None if it was removed again, to make room

        def decode():
            return SingleFrames(path, self._short_side, _QUALITY, self._limits)

        return decode() if frames is None else _CachedFrames(frames, entry, decode)

    def _read(self, entry: str, stamp: bytes) -> RecordFrames | None:
        """The frames of an entry; None if it is not there, damaged or out of date."""
        try:
            frames = RecordFrames(f"{entry}#0", self._limits.pixels)
        except VideoError:
            return None
        return frames if frames.context[_STAMP].bytes_list.value == [stamp] else None

    def _write(self, path: str, entry: str, stamp: bytes, warn) -> bool:
        """Keeps a video, or warns that it cannot be kept."""
        if not self._is_writable or path in self._too_large:
            return False
        try:
            with files.errors(self._folder, "cannot be written to"):
                self._encode(path, entry, stamp, warn)
            return True
        except EntryTooLarge as error:
            self._too_large.add(path)
            self._warn_unkept(path, error)
        except files.FileError as error:
            self._stop_writing(error)
        return False

    def _stop_writing(self, error: files.FileError) -> None:
        with self._lock:
            is_first, self._is_writable = self._is_writable, False
        if is_first:
            self._warn_unkept("Videos that are not in it", error)

    def _encode(self, path: str, entry: str, stamp: bytes, warn) -> None:
        scratch = None if files.is_remote(self._folder) else self._folder
        settings = self._short_side, _QUALITY, self._part_bytes, scratch
        with encode_video(path, *settings, self._limits) as video:
            if video.num_bad:
                warn(path, f"{video.num_bad} of its frames are lost or concealed")
            context = make_context(video, name=path)
            context.feature[_STAMP].bytes_list.value.append(stamp)
            with self._lock, files.replacing(entry, durable=False) as part:
                with tf.io.TFRecordWriter(part) as writer:
                    for record in make_records(video, context, self._part_bytes):
                        writer.write(record)
                self._room.make(files.state(part)[1])

    def _warn_unkept(self, what: str, error: files.FileError) -> None:
        # Without the advice of `reason`, which is for runs that end.
        cause = error.__cause__
        why = (
            f"cannot be written to ({files.reason(cause)})." if cause else error.reason
        )
        logging.warning(
            "`frame_cache` (%s): %s %s will be decoded each time they are read; the "
            "run goes on.",
            self._folder,
            why,
            what,
        )

    def _entry(self, path: str) -> str:
        made_of = (_VERSION, path, self._short_side, _QUALITY)
        name = hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]
        return files.join(self._folder, f"{name}.tfrecord")


class _CachedFrames:
    """The frames of an entry; of the video, if the entry turns out to be damaged.

    Args:
        frames: Of the entry, or of its first part.
        entry: Path of the entry.
        decode: Opens the video.
    """

    def __init__(self, frames: RecordFrames, entry: str, decode: Callable):
        self._frames, self._entry, self._decode = frames, entry, decode
        self.num_frames, self.frame_rate = frames.num_frames, frames.frame_rate
        self.times = frames.times

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, ArrayPicture]]:
        left = wanted
        try:
            for number, picture in self._frames.pictures(wanted):
                yield number, picture
                left = wanted[wanted > number]
        except VideoError:
            files.remove(self._entry)  # is written again when the video is next read
            yield from self._decode().pictures(left)


def _errno(error: files.FileError) -> int | None:
    return getattr(error.__cause__, "errno", None)


def _stamp(path: str) -> bytes:
    """The state of a video; differs after the file has changed."""
    try:
        return "{} {}".format(*files.state(path)).encode()
    except files.FileError:
        return b"none"  # opening the video raises the error
