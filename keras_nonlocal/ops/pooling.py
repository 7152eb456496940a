"""Max pooling: of keys, over space alone; and of clips."""

from keras import ops

KEY_POOL_SIZE = 2  # of non-local blocks that sub-sample their keys


def spatial_max_pool(x, pool_size=KEY_POOL_SIZE):
    """Max-pools the spatial axes of `x`; a trailing odd row or column is dropped.

    Args:
        x: `(B, L, C)`, `(B, H, W, C)` or `(B, T, H, W, C)`. The length counts as
            space; the frames T do not.
        pool_size: Int; also the stride.

    Returns:
        `(B, L // p, C)`, `(B, H // p, W // p, C)` or `(B, T, H // p, W // p, C)`.

    Example:
    >>> tuple(spatial_max_pool(np.ones((1, 4, 7, 7, 8))).shape)
    (1, 4, 3, 3, 8)
    """
    x = ops.convert_to_tensor(x)
    if len(x.shape) == 5:
        window = (1, pool_size, pool_size)
        return max_pool_3d(x, window, window)
    return ops.max_pool(x, pool_size, pool_size, data_format="channels_last")


def max_pool_3d(x, pool_size, strides):
    """Max-pools `(B, T, H, W, C)` without padding: over space, then over time.

    The gradient of each window goes to one of its maxima. TensorFlow's 3-D operation
    gives all of it to each of them, in eager code and in some graphs on CPUs: equal
    maxima are common after a ReLU, as zeros. 2-D kernels also exist for more dtypes.

    Args:
        x: `(B, T, H, W, C)`.
        pool_size: Window along (T, H, W).
        strides: Along (T, H, W).

    Returns:
        `(B, T', H', W', C)`; what does not fill a window is dropped.

    Example:
    >>> tuple(max_pool_3d(np.ones((1, 4, 7, 7, 8)), (2, 3, 3), (2, 2, 2)).shape)
    (1, 2, 3, 3, 8)
    """
    x = ops.convert_to_tensor(x)
    _, frames, height, width, channels = ops.shape(x)
    images = ops.reshape(x, (-1, height, width, channels))
    images = _max_pool_2d(images, pool_size[1:], strides[1:])
    _, height, width, _ = ops.shape(images)
    columns = ops.reshape(images, (-1, frames, height * width, channels))
    columns = _max_pool_2d(columns, (pool_size[0], 1), (strides[0], 1))
    frames = ops.shape(columns)[1]
    return ops.reshape(columns, (-1, frames, height, width, channels))


def _max_pool_2d(x, pool_size, strides):
    if {*pool_size, *strides} == {1}:
        return x
    return ops.max_pool(x, pool_size, strides, data_format="channels_last")
