"""A video as JPEG frames: what TFRecord shards and the frame cache hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from trainers.video_classification.data.crop import scale
from trainers.video_classification.data.errors import VideoError
from trainers.video_classification.data.pyav import PyAVSource
from trainers.video_classification.data.tfrecord import make_example
from trainers.video_classification.data.views import scaled_size

if TYPE_CHECKING:
    import tensorflow as tf

    from trainers.video_classification.data.index import Record

_MIN_DECODED = 0.5  # of a video's frames


def encode_video(
    record: Record, class_names: Sequence[str], short_side: int, quality: int
) -> tuple[tf.train.SequenceExample, int]:
    """The record, and how many of its frames are lost or patched up.

    Raises:
        VideoError: The video cannot be decoded, or not half of its frames.
    """
    source = PyAVSource(record.path)
    jpegs, size, num_damaged = [], None, 0
    for _, picture in source.pictures(np.arange(source.num_frames)):
        if size is None:
            size = scaled_size(*picture.size, min(short_side, *picture.size))
        num_damaged += picture.is_damaged
        jpegs.append(_jpeg(scale(picture.rgb(), *size), quality))
    if len(jpegs) < _MIN_DECODED * source.num_frames:
        raise VideoError(
            record.path,
            f"only {len(jpegs)} of its {source.num_frames} frames could be decoded",
        )
    example = make_example(
        jpegs, size, source.frame_rate, record.labels, class_names, record.name
    )
    return example, num_damaged + source.num_frames - len(jpegs)


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    bgr = np.ascontiguousarray(image[..., ::-1])
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
