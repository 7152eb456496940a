"""Decoding with tensorflow-io, and its file systems; TensorFlow 2.16-2.17 only.

Its last release (0.37.1) imports on any TensorFlow but its operations are there
on 2.16 and 2.17 only, and decode video only where FFmpeg 4 libraries are. It
decodes whole videos, without regard to rotation, and where the width is no
multiple of 16 it writes past the end of its rows (wrong pixels, at times a
crash). Videos that it gets wrong are therefore left to PyAV.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from absl import logging

from trainers.video_classification.data.crop import ArrayPicture
from trainers.video_classification.data.errors import DataError, VideoError
from trainers.video_classification.data.pyav import PyAVSource

_SAFE_WIDTH = 16


@functools.cache
def load_tfio() -> Callable[[bytes], tf.Tensor]:
    """tensorflow-io's video decoder, once an operation of its has run.

    Loading it also registers its file systems (s3://, http://, ...).

    Raises:
        DataError: It is not installed, or does not work on this TensorFlow.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where it should raise
            import tensorflow_io as tfio

            decode = tfio.experimental.ffmpeg.decode_video
            decode(b"")
    except tf.errors.InvalidArgumentError:
        return decode  # it looked at the bytes, and rightly refused them
    except Exception as error:
        raise DataError(
            f"`decoder: tfio` does not work here: {_first_line(error)}. It needs "
            f"TensorFlow 2.16 or 2.17 (this is {tf.__version__}), tensorflow-io "
            "0.37.1 (`pip install keras_nonlocal[tfio]` in an environment of its own) "
            "and FFmpeg 4 libraries (libavformat.so.58, libavcodec.so.58, "
            "libavutil.so.56, libswscale.so.5) on LD_LIBRARY_PATH. `decoder: pyav` "
            "needs none of this."
        ) from error
    raise DataError("`decoder: tfio`: tensorflow-io decoded a video from no bytes.")


def open_tfio(path: str) -> TfioSource | PyAVSource:
    """The video, decoded by tensorflow-io if it gets it right.

    Raises:
        VideoError: The video cannot be decoded.
        DataError: tensorflow-io does not work here.
    """
    decode = load_tfio()
    source = PyAVSource(path)
    for _, picture in source.pictures(np.array([0])):
        if not picture.frame.rotation and picture.frame.width % _SAFE_WIDTH == 0:
            return TfioSource(path, decode)
    logging.log_first_n(
        logging.WARNING,
        "tensorflow-io gets videos wrong whose width is no multiple of %d or that are "
        "rotated, such as %s: PyAV decodes these.",
        1,
        _SAFE_WIDTH,
        path,
    )
    return source


class TfioSource:
    """A video decoded as a whole."""

    def __init__(self, path: str, decode: Callable[[bytes], tf.Tensor]):
        try:
            self._images = decode(tf.io.read_file(path)).numpy()
        except tf.errors.OpError as error:
            reason = f"cannot be decoded ({_first_line(error)})"
            raise VideoError(path, reason) from error
        self.num_frames = len(self._images)
        if not self.num_frames:
            raise VideoError(path, "has no video frames")

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, ArrayPicture]]:
        for number in map(int, wanted):
            yield number, ArrayPicture(self._images[number])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
