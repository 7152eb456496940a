"""From uint8 clips to the input of the network, in TensorFlow.

`normalize` is used in training, testing and the exported model.
`resize_and_center_crop` is for the exported model, which receives whole frames; test
data are cropped in the same way while they are decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

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
    from keras_nonlocal.models import Convention  # with Keras: exports do without

    mean, std = clip_config.mean, clip_config.std
    mean = tf.constant(list(Convention.mean if mean is None else mean), tf.float32)
    std = tf.constant(list(Convention.std if std is None else std), tf.float32)
    return tf.cast((tf.cast(clips, tf.float32) - mean) / std, dtype)


def resize_and_center_crop(
    clips: tf.Tensor, short_side: int, crop_size: int
) -> tf.Tensor:
    """Scales the short side, antialiased, and cuts the central square.

    Only the pixels that the square needs are scaled: frames of any shape cost memory
    for the square alone, not for the whole scaled frame.

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
    rows = _span(shape[2], shape[2:4], short_side, crop_size)
    columns = _span(shape[3], shape[2:4], short_side, crop_size)
    frames = tf.reshape(clips, tf.concat([[-1], shape[2:4], [3]], 0))
    frames = frames[:, rows.start : rows.stop, columns.start : columns.stop]

    def scale():
        scaled = tf.raw_ops.ScaleAndTranslate(
            images=frames,
            size=[crop_size, crop_size],
            scale=tf.stack([rows.scale, columns.scale]),
            translation=tf.stack([rows.shift, columns.shift]),
            kernel_type="triangle",
            antialias=True,
        )
        return tf.cast(tf.round(scaled), tf.uint8)

    crops = tf.cond(rows.scale == 1, lambda: frames, scale)
    return tf.reshape(crops, tf.concat([shape[:2], [crop_size, crop_size, 3]], 0))


class _Span(NamedTuple):
    """The pixels `start` to `stop` of a side, and where they are in the scaled crop.

    Pixel x of them is at `scale * x + shift` of the crop.
    """

    start: tf.Tensor
    stop: tf.Tensor
    scale: tf.Tensor
    shift: tf.Tensor


def _span(side: tf.Tensor, sides: tf.Tensor, short_side: int, crop_size: int) -> _Span:
    """What the central crop needs of a side, with the margin of the antialiasing."""
    size = tf.cast(side, tf.float64)
    scaled, begin = _scaled_side(size, sides, short_side, crop_size)
    scale = scaled / size
    filter_size = tf.maximum(1 / scale, 1) + 1  # and for rounding
    margin = tf.where(scaled == size, tf.zeros_like(size), filter_size)
    start = tf.maximum(tf.floor(begin / scale - margin), 0)
    stop = tf.minimum(tf.math.ceil((begin + crop_size) / scale + margin), size)
    return _Span(
        tf.cast(start, tf.int32),
        tf.cast(stop, tf.int32),
        tf.cast(scale, tf.float32),
        tf.cast(start * scale - begin, tf.float32),
    )


def _scaled_side(size, sides, short_side, crop_size):
    """The length of a side after scaling, and where the crop begins in it."""
    shorter = tf.cast(tf.reduce_min(sides), tf.float64)
    scaled = tf.maximum(tf.round(size * short_side / shorter), short_side)
    return scaled, tf.floor((scaled - crop_size) / 2)


def crop_transform(
    height_and_width: tf.Tensor, short_side: int, crop_size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where `resize_and_center_crop` puts the pixels of a frame.

    Args:
        height_and_width: int `(2,)`, of the frame; may be dynamic.
        short_side: Of the scaled frames.
        crop_size: Side of the square.

    Returns:
        `(scale, offset)`, float32 `(2,)` each: pixel i is at `scale * i + offset` of
        the crop, along y and x, where the centre of pixel k is k.
    """
    size = tf.cast(height_and_width, tf.float64)
    scaled, begin = _scaled_side(size, size, short_side, crop_size)
    scale = scaled / size
    offset = (scale - 1) / 2 - begin
    return tf.cast(scale, tf.float32), tf.cast(offset, tf.float32)
