"""Convolution that pads symmetrically."""

import keras
from keras import layers, ops

from keras_nonlocal.ops.convolution import conv3d


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class PaddedConv3D(layers.Conv3D):
    """Convolution of `(B, T, H, W, C)` with k // 2 zeros on both sides of each axis.

    Keras's `padding="same"` may pad the two sides of a strided axis differently,
    unlike the published networks.

    Args:
        filters: Channels out.
        kernel_size: Odd extents along (T, H, W).
        strides: Along (T, H, W).
        **kwargs: As in `keras.layers.Conv3D`.
    """

    def __init__(self, filters, kernel_size, strides=(1, 1, 1), **kwargs):
        # "same" gives the same shapes: ceil(n / stride).
        kwargs |= {"padding": "same", "data_format": "channels_last"}
        super().__init__(filters, kernel_size, strides, **kwargs)
        self.pad = tuple(extent // 2 for extent in self.kernel_size)

    def call(self, inputs, training=None):
        y = conv3d(inputs, self.kernel, self.strides, training=bool(training))
        if self.use_bias:
            # TensorFlow fuses it if it is a map of 1x1x1.
            y = ops.add(y, ops.reshape(self.bias, (1, 1, 1, 1, self.filters)))
        return y if self.activation is None else self.activation(y)
