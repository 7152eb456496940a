"""Decoding with tensorflow-io, and its file systems; TensorFlow 2.16-2.17 only.

Its last release (0.37.1) imports with any TensorFlow, but its operations exist only
on 2.16 and 2.17, and decode video only with FFmpeg 4 libraries. It decodes whole
videos and ignores rotation. If the width is no multiple of 16 it writes past the
end of its rows (wrong pixels, sometimes a crash). PyAV decodes the videos that it
would decode wrongly.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from absl import logging

from trainers.video_classification.data.cropping import ArrayPicture
from trainers.video_classification.data.decoding.container import video_errors
from trainers.video_classification.data.decoding.pyav import PyAVFrames
from trainers.video_classification.data.errors import DataError, VideoError
from trainers.video_classification.data.limits import DEFAULT_LIMITS, Limits

_SAFE_WIDTH = 16


@functools.cache
def load_tfio() -> Callable[[bytes], tf.Tensor]:
    """Loads tensorflow-io's video decoder, and runs it once to see that it works.

    This also registers its file systems (s3://, http://, ...).

    Raises:
        DataError: It is not installed, or does not work with this TensorFlow.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where it should raise
            import tensorflow_io as tfio

            decode = tfio.experimental.ffmpeg.decode_video
            decode(b"")
    except tf.errors.InvalidArgumentError:
        return decode  # it works: the empty input is what it rejects
    except Exception as error:
        raise DataError(
            f"`decoder: tfio` does not work here: {_first_line(error)}. It needs "
            f"TensorFlow 2.16 or 2.17 (this is {tf.__version__}), tensorflow-io "
            "0.37.1 (`pip install -e .[tfio]` in an environment of its own) "
            "and FFmpeg 4 libraries (libavformat.so.58, libavcodec.so.58, "
            "libavutil.so.56, libswscale.so.5) on LD_LIBRARY_PATH. `decoder: pyav` "
            "needs none of this."
        ) from error
    raise DataError("`decoder: tfio`: tensorflow-io decoded a video from no bytes.")


def open_tfio(path: str, limits: Limits = DEFAULT_LIMITS) -> TfioFrames | PyAVFrames:
    """Opens a video; with PyAV if tensorflow-io would decode it wrongly.

    Raises:
        VideoError: The video cannot be decoded, or is above a limit.
        DataError: tensorflow-io does not work here.
    """
    decode = load_tfio()
    frames = PyAVFrames(path, limits)
    for _, picture in frames.pictures(np.array([0])):
        if not picture.frame.rotation and picture.frame.width % _SAFE_WIDTH == 0:
            return TfioFrames(path, decode)
    logging.log_first_n(
        logging.WARNING,
        "tensorflow-io decodes videos wrongly that are rotated or whose width is no "
        "multiple of %d, such as %s: PyAV decodes these.",
        1,
        _SAFE_WIDTH,
        path,
    )
    return frames


class TfioFrames:
    """The frames of a video, decoded as a whole."""

    def __init__(self, path: str, decode: Callable[[bytes], tf.Tensor]):
        with video_errors(path):
            self._images = decode(tf.io.read_file(path)).numpy()
        self.num_frames = len(self._images)
        self.frame_rate, self.times = 0.0, None
        if not self.num_frames:
            raise VideoError(path, "has no video frames")

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, ArrayPicture]]:
        for number in map(int, wanted):
            yield number, ArrayPicture(self._images[number])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
