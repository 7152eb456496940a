"""Videos kept as JPEG frames in a folder, so that each is decoded once.

The whole video is kept, before any random choice: start, short side, position and
flip are drawn anew in every epoch. Frames always come out of the cache, the first
time too: pixels do not depend on when an entry was written, so that a resumed run
makes the batches of an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import time
from collections.abc import Callable

import tensorflow as tf

from trainers.core import files
from trainers.video_classification.data.errors import DataError, VideoError
from trainers.video_classification.data.tfrecords.jpeg import encode_video
from trainers.video_classification.data.tfrecords.records import (
    RecordFrames,
    make_example,
)

_QUALITY = 95  # of JPEG: 40 dB and more, with eight times the bytes of H.264
_VERSION = 1  # of the content of an entry
_STAMP = "cache/stamp"
_ABANDONED = 3600  # seconds; no video takes as long to write


class FrameCache:
    """A folder with one entry per video: a TFRecord of its JPEG frames.

    An entry appears under its name when it is complete. It records the state (time
    and size) of the video it was made from: if that has changed, or the entry is
    damaged, it is written again. Any number of processes may share the folder.

    Args:
        folder: Created if it does not exist.
        short_side: Frames with a larger one are scaled down to it.

    Raises:
        DataError: The folder cannot be created or written to.
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

    def open(self, path: str, warn: Callable[[str, str], None]) -> RecordFrames:
        """The frames of a video, which is decoded and kept if it is not yet.

        Args:
            path: The video.
            warn: Called with the path and a description if frames are damaged,
                when the video is decoded.

        Raises:
            VideoError: It cannot be decoded; nothing is kept.
            DataError: The entry cannot be written.
        """
        entry, stamp = self._entry(path), _stamp(path)
        try:
            frames = RecordFrames(f"{entry}#0")
            if frames.context[_STAMP].bytes_list.value == [stamp]:
                return frames
        except VideoError:
            pass  # not written yet, or damaged
        self._write(path, entry, stamp, warn)
        return RecordFrames(f"{entry}#0")

    def _write(self, path: str, entry: str, stamp: bytes, warn) -> None:
        video = encode_video(path, self._short_side, _QUALITY)
        if video.num_bad:
            warn(path, f"{video.num_bad} of its frames are lost or concealed")
        example = make_example(video.frames, video.size, video.frame_rate, name=path)
        example.context.feature[_STAMP].bytes_list.value.append(stamp)
        with files.replacing(entry, durable=False) as part:
            with tf.io.TFRecordWriter(part) as writer:
                writer.write(example.SerializeToString(deterministic=True))

    def _entry(self, path: str) -> str:
        made_of = (_VERSION, path, self._short_side, _QUALITY)
        name = hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]
        return str(self._folder / f"{name}.tfrecord")

    def _remove_abandoned(self) -> None:
        """Removes unfinished entries of runs that were killed."""
        for part in self._folder.glob(".*.part"):
            if time.time() - part.stat().st_mtime > _ABANDONED:
                part.unlink(missing_ok=True)


def _stamp(path: str) -> bytes:
    """The state of a video; differs after the file has changed."""
    try:
        status = tf.io.gfile.stat(path)
    except tf.errors.OpError:
        return b"none"  # opening the video raises the error
    return f"{status.mtime_nsec} {status.length}".encode()
