"""Converts arrays of other projects to NumPy, to float32 and to our layout.

Ours: convolutions (T, H, W, I, O), products (I, O), vectors (O,).
"""

import numpy as np
from keras import ops


def to_arrays(state):
    """The arrays among a dict's values, PyTorch's tensors included, as NumPy's."""
    return {
        str(name): _to_numpy(value)
        for name, value in state.items()
        if hasattr(value, "shape")
    }


def _to_numpy(value):
    if hasattr(value, "detach"):  # PyTorch; NumPy has no bfloat16
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    return np.asarray(value)


def to_float32(array):
    """The numbers as float32, or None for other types (text, objects)."""
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        return None
    with np.errstate(over="ignore"):  # infinity, which is reported
        return array.astype("float32")


def to_dtype(array, dtype):
    """The numbers as a weight of `dtype` holds them."""
    if dtype == "float32":
        return array
    with np.errstate(over="ignore"):  # JAX casts in NumPy; infinity is the answer
        return ops.convert_to_numpy(ops.cast(array, dtype)).astype("float32")


# === Layout ===


def port_conv(kernel, taps=1):
    """(O, I, T, H, W) to (T, H, W, I, O); (O, I, H, W) is inflated to `taps`."""
    if kernel.ndim == 4:
        return inflate(kernel.transpose(2, 3, 1, 0), taps)
    return kernel.transpose(2, 3, 4, 1, 0)


def inflate(kernel, taps):
    """(H, W, I, O) to (T, H, W, I, O): T copies, each divided by T (paper, Sec. 3.3).

    A video that repeats one frame then gives what the frame gave.
    """
    return np.repeat(kernel[None] / taps, taps, axis=0)


def port_dense(kernel):
    """(O, I), or a 1x1 or 1x1x1 convolution (O, I, 1, ...), to (I, O)."""
    return kernel.reshape(kernel.shape[:2]).T


def torch_to_keras(array, shape):
    """An (O, I, ...) array in the layout of a weight of ours of that `shape`.

    Arrays that do not fit are returned unchanged.
    """
    if len(shape) == 5 and array.ndim in (4, 5):
        return port_conv(array, shape[0])
    if len(shape) == 4 and array.ndim == 4:  # transposed convolutions, too
        return array.transpose(2, 3, 1, 0)
    if len(shape) == 2 and array.ndim >= 2 and set(array.shape[2:]) <= {1}:
        return port_dense(array)
    if len(shape) == 1 and set(array.shape[1:]) == {1}:  # (O, 1, 1, 1)
        return array.reshape(len(array))
    return array


def keras_to_keras(array, shape):
    """The same of an array of Keras: (H, W, I, O) is inflated to (T, H, W, I, O)."""
    return inflate(array, shape[0]) if (len(shape), array.ndim) == (5, 4) else array


# === Normalisation ===


def port_bn(variance, epsilon, our_epsilon):
    """The variance for our epsilon, such that the sum of the two is the same."""
    return variance + (epsilon - our_epsilon)


def identity_norm(epsilon):
    """`Source.defaults` for a block without normalisation: exactly x to x."""
    return {
        "norm/gamma": 1.0,
        "norm/beta": 0.0,
        "norm/moving_mean": 0.0,
        "norm/moving_variance": 1.0 - epsilon,
    }
