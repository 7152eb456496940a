"""Videos kept as JPEG frames in a folder, so that each is decoded once.

What is kept is the whole video, from before anything random: start, short side,
position and flip are drawn anew in every epoch. And frames always come out of the
cache, also the first time: pixels do not depend on when an entry was written, so
that a run that goes on makes the batches of an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import time
from collections.abc import Callable

import tensorflow as tf

from trainers.video_classification.data import files
from trainers.video_classification.data.errors import DataError, VideoError
from trainers.video_classification.data.index import Record
from trainers.video_classification.data.jpeg import encode_video
from trainers.video_classification.data.tfrecord import RecordSource

_QUALITY = 95  # of JPEG: 40 dB and more, with eight times the bytes of H.264
_VERSION = 1  # of what an entry is made from
_STAMP = "cache/stamp"
_ABANDONED = 3600  # seconds; no video takes as long to write


class FrameCache:
    """A folder with one entry per video: a TFRecord of its JPEG frames.

    An entry appears under its name when it is complete. It says which state of
    the video it was made from, and one of another state is written again, as is
    one that was damaged. Any number of processes may share the folder.

    Args:
        folder: Made if it is not there.
        short_side: Frames with a larger one are scaled down to it.

    Raises:
        DataError: The folder cannot be made or written to.
    """

    def __init__(self, folder: str, short_side: int):
        self._folder, self._short_side = pathlib.Path(folder), short_side
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
        except OSError as error:
            raise DataError(
                f"`frame_cache` ({folder}): cannot be made ({error.strerror}). Name a "
                "folder on a disk with room, or leave it empty."
            ) from error
        if not os.access(self._folder, os.W_OK):
            raise DataError(f"`frame_cache` ({folder}): cannot be written to.")

    def source(self, path: str, warn: Callable[[str, str], None]) -> RecordSource:
        """The frames of a video; it is decoded and kept if it was not.

        Args:
            path: The video.
            warn: Called with the path and what happened if frames were damaged,
                when the video is decoded.

        Raises:
            VideoError: It cannot be decoded; nothing is kept.
            DataError: The entry cannot be written.
        """
        entry, stamp = self._entry(path), _stamp(path)
        try:
            source = RecordSource(f"{entry}#0")
            if source.context[_STAMP].bytes_list.value == [stamp]:
                return source
        except VideoError:
            pass  # not there yet, or damaged
        self._write(path, entry, stamp, warn)
        return RecordSource(f"{entry}#0")

    def _write(self, path: str, entry: str, stamp: bytes, warn) -> None:
        record = Record(path, (), path)
        example, num_bad = encode_video(record, (), self._short_side, _QUALITY)
        if num_bad:
            warn(path, f"{num_bad} of its frames are lost or patched up")
        example.context.feature[_STAMP].bytes_list.value.append(stamp)
        with files.complete_or_absent(entry) as part:
            with tf.io.TFRecordWriter(part) as writer:
                writer.write(example.SerializeToString(deterministic=True))

    def _entry(self, path: str) -> str:
        made_of = (_VERSION, path, self._short_side, _QUALITY)
        name = hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]
        return str(self._folder / f"{name}.tfrecord")

    def _remove_abandoned(self) -> None:
        """Removes what killed runs were writing."""
        for part in self._folder.glob(".*.part"):
            if time.time() - part.stat().st_mtime > _ABANDONED:
                part.unlink(missing_ok=True)


def _stamp(path: str) -> bytes:
    """Changes when the video does."""
    try:
        status = tf.io.gfile.stat(path)
    except tf.errors.OpError:
        return b"none"  # opening it says what is wrong
    return f"{status.mtime_nsec} {status.length}".encode()
