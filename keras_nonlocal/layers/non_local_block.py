"""The non-local block for any input."""

import keras

from keras_nonlocal.layers.base_non_local import BaseNonLocal


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class NonLocalBlock(BaseNonLocal):
    """Non-local block whose rank is that of its input: sequence, image or video.

    The same as `NonLocal1D`, `NonLocal2D` or `NonLocal3D`, chosen when it first
    sees an input. For all arguments see `NonLocal3D`.

    Input shape: `(batch, length, channels)`, `(batch, height, width, channels)`
    or `(batch, frames, height, width, channels)`. Output shape: the same.

    Example:
    >>> x = keras.random.normal((2, 14, 14, 16))
    >>> tuple(NonLocalBlock(mode="concatenation")(x).shape)
    (2, 14, 14, 16)

    Reference: [Wang et al., 2018](https://arxiv.org/abs/1711.07971)
    """
