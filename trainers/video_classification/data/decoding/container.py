"""Opens video files, and describes why one cannot be opened."""

from __future__ import annotations

import io
import os
from contextlib import contextmanager

import av
import tensorflow as tf
from av.stream import Disposition

from trainers.video_classification.data.errors import VideoError


@contextmanager
def opened(path: str, content: bytes | None):
    """Opens a file: (container, video stream), closed at the end of the context.

    Raises:
        VideoError: Not a regular file, not a video, or no video in it.
    """
    if content is None and not os.path.isfile(path):
        there = os.path.exists(path)
        raise VideoError(path, "not a regular file" if there else "no such file")
    file = os.fsdecode(path) if content is None else io.BytesIO(content)
    try:
        # Metadata are not always UTF-8, and are not used here.
        with av.open(file, metadata_errors="replace") as container:
            yield container, _video_stream(container, path)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(path, f"cannot be decoded ({_reason(error)})") from error


def fetch(path: str) -> bytes:
    """Reads a file on one of TensorFlow's file systems."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except (tf.errors.OpError, OSError) as error:
        raise VideoError(path, f"cannot be read ({_reason(error)})") from error


def _video_stream(container, path: str):
    streams = container.streams.video
    moving = [s for s in streams if not s.disposition & Disposition.attached_pic]
    if not moving:
        raise VideoError(path, "has no video stream")
    if moving[0].codec_context is None:
        raise VideoError(path, "is in a format that this FFmpeg has no decoder for")
    # Clips are decoded in parallel already; libav's own threads would compete with
    # these, and its frame threads can deadlock with Python's logging.
    moving[0].thread_type = "NONE"
    moving[0].codec_context.thread_count = 1
    return moving[0]


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0]
