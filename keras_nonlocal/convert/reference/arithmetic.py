"""Convolution, pooling and normalisation of maps (T, H, W, C), in plain NumPy."""

import math

import numpy as np


def conv(x, kernel, strides=(1, 1, 1)):
    """Convolution by a kernel (O, I, T, H, W), k // 2 zeros on either side.

    Taps along W are columns of one matrix product, those along T and H are summed.
    """
    extents = kernel.shape[2:]
    x = _pad(x, [extent // 2 for extent in extents], 0)
    outputs = _outputs(x, extents, strides)
    y = np.zeros((math.prod(outputs), len(kernel)), x.dtype)
    for t in range(extents[0]):
        for h in range(extents[1]):
            columns = [
                _shifted(x, (t, h, w), outputs, strides) for w in range(extents[2])
            ]
            columns = np.concatenate(columns, axis=-1).reshape(len(y), -1)
            rows = kernel[:, :, t, h].transpose(2, 1, 0).reshape(-1, len(kernel))
            y += columns @ np.ascontiguousarray(rows)
    return y.reshape(*outputs, -1)


def conv_of_image(x, kernel, taps, strides):
    """Convolution of each frame by (O, I, H, W), then the mean of `taps` frames.

    Frames outside the clip are zero. That is what inflation stands for.
    """
    y = conv(x, kernel[:, :, None], (1, *strides[1:]))
    y = _pad(y, (taps // 2, 0, 0), 0)
    outputs = _outputs(y, (taps, 1, 1), (strides[0], 1, 1))
    frames = [_shifted(y, (t, 0, 0), outputs, (strides[0], 1, 1)) for t in range(taps)]
    return sum(frames) / np.float32(taps)


def max_pool(x, extents, strides, pad=(0, 0, 0)):
    """Max pooling, with `pad` on either side."""
    x = _pad(x, pad, -np.inf)
    outputs = _outputs(x, extents, strides)
    offsets = np.ndindex(*extents)
    return np.maximum.reduce([_shifted(x, o, outputs, strides) for o in offsets])


def normalize(x, scale, bias, mean=None, variance=None, epsilon=1e-5):
    """Batch normalisation of inference, or without statistics a scale and a bias."""
    if mean is not None:
        x = (x - mean) / np.sqrt(variance + epsilon)
    return x * scale + bias


def relu(x):
    return np.maximum(x, 0)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def _pad(x, pad, value):
    if not any(pad):
        return x
    widths = (*((n, n) for n in pad), (0, 0))
    return np.pad(x, widths, constant_values=value)


def _outputs(x, extents, strides):
    sizes = zip(x.shape, extents, strides, strict=False)
    return tuple((size - extent) // stride + 1 for size, extent, stride in sizes)


def _shifted(x, offsets, outputs, strides):
    """What the tap at `offsets` sees of `x`, for every output."""
    steps = zip(offsets, outputs, strides, strict=True)
    return x[tuple(slice(o, o + (n - 1) * s + 1, s) for o, n, s in steps)]
