"""Convolution that pads symmetrically."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class PaddedConv3D(layers.Conv3D):
    """Convolution of `(B, T, H, W, C)` with k // 2 zeros on both sides of each axis.

    Keras's `padding="same"` pads the two sides of a strided axis unequally, by its
    length; the published networks do not.

    Args:
        filters: Channels out.
        kernel_size: Odd extents along (T, H, W).
        strides: Along (T, H, W).
        **kwargs: As in `keras.layers.Conv3D`.
    """

    def __init__(self, filters, kernel_size, strides=(1, 1, 1), **kwargs):
        # As far as shapes go, this is "same": ceil(n / stride).
        kwargs |= {"padding": "same", "data_format": "channels_last"}
        super().__init__(filters, kernel_size, strides, **kwargs)
        self.pad = tuple(extent // 2 for extent in self.kernel_size)

    def convolution_op(self, inputs, kernel):
        padding = "same"
        if not self._same_is_symmetric(inputs.shape[1:4]):
            padding = "valid"
            inputs = ops.pad(inputs, ((0, 0), *((n, n) for n in self.pad), (0, 0)))
        strides = list(self.strides)
        return ops.conv(inputs, kernel, strides, padding, "channels_last")

    def _same_is_symmetric(self, maps):
        if max(self.kernel_size) == 1:
            return True
        # TensorFlow's oneDNN kernels give wrong bfloat16 gradients ("same", maps
        # smaller than the kernel); padded beforehand, right ones.
        fits = all(
            size is None or size >= extent
            for size, extent in zip(maps, self.kernel_size, strict=True)
        )
        return fits and max(self.strides) == 1
