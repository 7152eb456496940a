"""Pooling with symmetric padding; maps smaller than the window are an error."""

import keras
from keras import layers, ops

from keras_nonlocal.ops import max_pool_3d


def check_fits(name, window, maps, advice):
    """Raises a `ValueError` if `window` does not fit on `maps`, both (T, H, W).

    Both are (H, W) in networks for images.
    """
    inputs, axes = ("clips", "THW") if len(window) == 3 else ("images", "HW")
    for axis, size, extent in zip(axes, maps, window, strict=True):
        if size is not None and size < extent:
            raise ValueError(
                f"The {inputs} are too small: {name} has a window of {tuple(window)} "
                f"and receives maps of ({', '.join(axes)}) = {tuple(maps)}, too few "
                f"along {axis}. {advice}"
            )


class _SymmetricallyPadded:
    """Max pooling that pads both sides of every axis."""

    def __init__(self, pool_size, strides, pad=None, **kwargs):
        kwargs["data_format"] = "channels_last"
        super().__init__(pool_size, strides, **kwargs)
        self.pad = (0,) * len(self.pool_size) if pad is None else tuple(pad)

    def call(self, inputs):
        self._check(inputs.shape)
        if any(self.pad):
            widths = ((0, 0), *((n, n) for n in self.pad), (0, 0))
            inputs = ops.pad(inputs, widths, constant_values=float("-inf"))
        # TensorFlow has no float16 kernel on CPUs; float32 gives the same maxima.
        if self.compute_dtype == "float16":
            return ops.cast(self._pool(ops.cast(inputs, "float32")), "float16")
        return self._pool(inputs)

    def _pool(self, inputs):
        return super().call(inputs)

    def compute_output_shape(self, input_shape):
        self._check(input_shape)
        batch, *maps, channels = input_shape
        return super().compute_output_shape((batch, *self._padded(maps), channels))

    def get_config(self):
        return super().get_config() | {"pad": self.pad}

    def _padded(self, maps):
        sizes = zip(maps, self.pad, strict=True)
        return tuple(None if size is None else size + 2 * n for size, n in sizes)

    def _check(self, input_shape):
        maps = self._padded(input_shape[1:-1])
        check_fits(self.name, self.pool_size, maps, self._advice)


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class PaddedMaxPooling3D(_SymmetricallyPadded, layers.MaxPooling3D):
    """Max pooling of `(B, T, H, W, C)` that pads both sides of every axis.

    Keras's `padding="same"` pads one side of an axis of even length. Padded positions
    are never the maximum.

    Args:
        pool_size: Window along (T, H, W).
        strides: Along (T, H, W).
        pad: Positions added on both sides of (T, H, W).
    """

    _advice = "Use larger clips, or for few frames the stem '8x8'."

    def _pool(self, inputs):
        return max_pool_3d(inputs, self.pool_size, self.strides)


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class PaddedMaxPooling2D(_SymmetricallyPadded, layers.MaxPooling2D):
    """The same of `(B, H, W, C)`; window, strides and padding are along (H, W)."""

    _advice = "Use larger images."


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class WindowMean(layers.AveragePooling3D):
    """Average pooling with stride 1 and without padding, of `(B, T, H, W, C)`."""

    def __init__(self, pool_size, **kwargs):
        kwargs |= {"strides": 1, "data_format": "channels_last"}
        super().__init__(pool_size, **kwargs)

    def call(self, inputs):
        advice = "Use clips no smaller than the training crop."
        check_fits(self.name, self.pool_size, inputs.shape[1:4], advice)
        return super().call(inputs)
