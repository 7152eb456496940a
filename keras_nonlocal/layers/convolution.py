"""Convolutions that pad symmetrically."""

import keras
from keras import layers, ops

from keras_nonlocal.ops.convolution import conv


class _SymmetricallyPadded:
    """`call` of a convolution that pads k // 2 zeros on both sides of each axis."""

    def __init__(self, filters, kernel_size, strides=1, **kwargs):
        # "same" gives the same shapes: ceil(n / stride).
        kwargs |= {"padding": "same", "data_format": "channels_last"}
        super().__init__(filters, kernel_size, strides, **kwargs)
        self.pad = tuple(extent // 2 for extent in self.kernel_size)

    def call(self, inputs, training=None):
        y = conv(inputs, self.kernel, self.strides, training=bool(training))
        if self.use_bias:
            # TensorFlow fuses it if it is a map of 1x1x1.
            bias = ops.reshape(self.bias, (1,) * (self.rank + 1) + (self.filters,))
            y = ops.add(y, bias)
        return y if self.activation is None else self.activation(y)


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class PaddedConv3D(_SymmetricallyPadded, layers.Conv3D):
    """Convolution of `(B, T, H, W, C)` with k // 2 zeros on both sides of each axis.

    Keras's `padding="same"` may pad the two sides of a strided axis differently,
    unlike the published networks.

    Args:
        filters: Channels out.
        kernel_size: Odd extents along (T, H, W).
        strides: Along (T, H, W).
        **kwargs: As in `keras.layers.Conv3D`.
    """


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class PaddedConv2D(_SymmetricallyPadded, layers.Conv2D):
    """The same of `(B, H, W, C)`, also in groups of channels.

    Args:
        filters: Channels out.
        kernel_size: Odd extents along (H, W).
        strides: Along (H, W).
        **kwargs: As in `keras.layers.Conv2D`; `groups` is as fast on TensorFlow's CPUs
            as its own kernel, which Keras does without.
    """
