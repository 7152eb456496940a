"""3-D convolution of channels-last maps, in the form that is fastest."""

from keras import backend, ops

from keras_nonlocal.ops.backends import backend_kernels


def conv3d(x, kernel, strides=(1, 1, 1), training=False):
    """Convolution that pads k // 2 zeros on both sides of each axis.

    Kernels of 1x1x1 are computed as products of two matrices where that is faster:
    everywhere but in TensorFlow's inference, which fuses a convolution with the bias,
    the residual sum and the ReLU that follow it.

    Args:
        x: `(B, T, H, W, C)`.
        kernel: `(t, h, w, C, filters)`, of odd extents.
        strides: Along (T, H, W).
        training: Whether there will be a backward pass.

    Returns:
        `(B, ceil(T / s_t), ceil(H / s_h), ceil(W / s_w), filters)`.

    Example:
    >>> x, kernel = np.ones((1, 4, 8, 8, 3)), np.ones((1, 3, 3, 3, 5))
    >>> tuple(conv3d(x, kernel, strides=(1, 2, 2)).shape)
    (1, 4, 4, 4, 5)
    """
    kernels = backend_kernels()
    fuses = backend.backend() == "tensorflow" and not training
    if max(kernel.shape[:3]) == 1 and not fuses:
        return _product(x, kernel, strides)
    if not _same_is_symmetric(x.shape[1:4], kernel.shape[:3], strides, training):
        pads = ((extent // 2,) * 2 for extent in kernel.shape[:3])
        x = ops.pad(x, ((0, 0), *pads, (0, 0)))
        return ops.conv(x, kernel, list(strides), "valid", "channels_last")
    if kernels and training and kernels.has_few_positions(x):
        kernel = ops.cast(ops.convert_to_tensor(kernel), x.dtype)
        return kernels.conv3d_of_few_positions(x, kernel)
    return ops.conv(x, kernel, list(strides), "same", "channels_last")


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
    # With "same", TensorFlow's oneDNN kernels give wrong bfloat16 gradients on maps
    # smaller than the kernel, which maps of unknown size may be.
    fits = all(
        extent == 1 or (not training if size is None else size >= extent)
        for size, extent in zip(maps, kernel_size, strict=True)
    )
    return fits and max(strides) == 1
