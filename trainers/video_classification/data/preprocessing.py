"""From uint8 clips to the input of the network, in TensorFlow.

`normalize` is used in training, testing and the exported model.
`resize_and_center_crop` is for the exported model, which receives whole frames; test
data are cropped in the same way while they are decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from keras_nonlocal.models import Convention

if TYPE_CHECKING:
    from trainers.video_classification.data.configs import ClipConfig


def normalize(
    clips: tf.Tensor, clip_config: ClipConfig, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """(clips - mean) / std, computed in float32, for pixels of 0-255.

    Args:
        clips: Any shape whose last dimension is RGB.
        clip_config: `mean` and `std`. Tasks set them; None is the default
            convention's.
        dtype: Of the result.
    """
    mean, std = clip_config.mean, clip_config.std
    mean = tf.constant(list(Convention.mean if mean is None else mean), tf.float32)
    std = tf.constant(list(Convention.std if std is None else std), tf.float32)
    return tf.cast((tf.cast(clips, tf.float32) - mean) / std, dtype)


def resize_and_center_crop(
    clips: tf.Tensor, short_side: int, crop_size: int
) -> tf.Tensor:
    """Scales the short side, antialiased, and cuts the central square.

    Args:
        clips: uint8 `(batch, frames, height, width, 3)`; all dimensions except the
            last may be dynamic.
        short_side: Of the scaled frames, at least `crop_size`.
        crop_size: Side of the square.

    Returns:
        uint8 `(batch, frames, crop_size, crop_size, 3)`.
    """
    if crop_size > short_side:
        raise ValueError(
            f"`crop_size` ({crop_size}) must not exceed `short_side` ({short_side})."
        )
    shape = tf.shape(clips)
    height, width = _scaled_size(shape[2], shape[3], short_side)
    top, left = (height - crop_size) // 2, (width - crop_size) // 2

    def scale(frames):
        scaled = tf.image.resize(frames, (height, width), "bilinear", antialias=True)
        return tf.cast(tf.round(scaled), tf.uint8)

    frames = tf.reshape(clips, tf.concat([[-1], shape[2:4], [3]], 0))
    is_scaled = tf.logical_or(height != shape[2], width != shape[3])
    frames = tf.cond(is_scaled, lambda: scale(frames), lambda: frames)
    frames = frames[:, top : top + crop_size, left : left + crop_size]
    return tf.reshape(frames, tf.concat([shape[:2], [crop_size, crop_size, 3]], 0))


def _scaled_size(
    height: tf.Tensor, width: tf.Tensor, short_side: int
) -> tuple[tf.Tensor, tf.Tensor]:
    shorter = tf.cast(tf.minimum(height, width), tf.float64)

    def scaled(side):
        exact = tf.cast(side, tf.float64) * short_side / shorter
        return tf.maximum(tf.cast(tf.round(exact), tf.int32), short_side)

    return scaled(height), scaled(width)
