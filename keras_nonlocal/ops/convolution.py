"""Convolution of channels-last maps, in the form that is fastest."""

from keras import backend, ops

from keras_nonlocal.ops.backends import backend_kernels


def conv(x, kernel, strides, training=False):
    """Convolution that pads k // 2 zeros on both sides of each axis.

    In video, kernels of 1x1x1 are computed as products of two matrices where that is
    faster: everywhere but in TensorFlow's inference, which fuses a convolution with
    the bias, the residual sum and the ReLU that follow it.

    Args:
        x: `(B, T, H, W, C)` or `(B, H, W, C)`.
        kernel: `(t, h, w, C, filters)` or `(h, w, C, filters)`, of odd extents. With
            C / groups for C the convolution is grouped: the filters are in as many
            groups as the channels, and each sees its own group of channels.
        strides: Along (T, H, W) or (H, W).
        training: Whether there will be a backward pass.

    Returns:
        `(B, ceil(T / s_t), ceil(H / s_h), ceil(W / s_w), filters)`; of images without
        the axis T.

    Example:
    >>> x, kernel = np.ones((1, 4, 8, 8, 3)), np.ones((1, 3, 3, 3, 5))
    >>> tuple(conv(x, kernel, strides=(1, 2, 2)).shape)
    (1, 4, 4, 4, 5)
    """
    kernels = backend_kernels()
    if _is_product(kernel, training):
        return _product(x, kernel, strides)
    padding, extents = "same", kernel.shape[:-2]
    if not _same_is_symmetric(x.shape[1:-1], extents, strides, training):
        pads = ((0, 0), *((extent // 2,) * 2 for extent in extents), (0, 0))
        if kernels and training and len(extents) == 2:
            return kernels.padded_conv2d(x, kernel, strides, pads)
        x, padding = ops.pad(x, pads), "valid"
    elif kernels and training and kernels.has_few_positions(x):
        kernel = ops.cast(ops.convert_to_tensor(kernel), x.dtype)
        return kernels.conv3d_of_few_positions(x, kernel)
    if kernels and len(extents) == 2 and kernel.shape[-2] != x.shape[-1]:
        return kernels.grouped_conv2d(x, kernel, strides, padding)
    return ops.conv(x, kernel, list(strides), padding, "channels_last")


def _is_product(kernel, training):
    fuses = backend.backend() == "tensorflow" and not training
    return len(kernel.shape) == 5 and max(kernel.shape[:3]) == 1 and not fuses


def _product(x, kernel, strides):
    x = _every(x, strides)
    *sizes, channels = ops.shape(x)
    filters = kernel.shape[-1]
    kernel = ops.reshape(kernel, (channels, filters))
    y = ops.matmul(ops.reshape(x, (-1, channels)), kernel)
    return ops.reshape(y, (*sizes, filters))


def _every(x, strides):
    """x[:, ::s_t, ::s_h, ::s_w]."""
    batch, frames, height, width, channels = ops.shape(x)
    _, s_h, s_w = strides
    if max(strides) == 1:
        return x
    if strides[0] > 1 or None in x.shape[1:] or height % s_h or width % s_w:
        return x[:, :: strides[0], :: strides[1], :: strides[2]]
    # The same in contiguous channels, which TensorFlow copies ten times as fast.
    rows = (batch * frames * height // s_h, s_h, width // s_w, s_w * channels)
    sizes = (rows[0], 1, rows[2], channels)
    x = ops.slice(ops.reshape(x, rows), (0, 0, 0, 0), sizes)
    return ops.reshape(x, (batch, frames, height // s_h, width // s_w, channels))


def _same_is_symmetric(maps, kernel_size, strides, training):
    """Whether padding "same" is k // 2 on both sides, with correct gradients."""
    if max(kernel_size) == 1:
        return True
    # With "same", TensorFlow's oneDNN kernels give wrong bfloat16 gradients on clips
    # smaller than the kernel, which clips of unknown size may be.
    fits = len(maps) == 2 or all(
        extent == 1 or (not training if size is None else size >= extent)
        for size, extent in zip(maps, kernel_size, strict=True)
    )
    return fits and max(strides) == 1
