"""Max pooling of keys: over space, never over time."""

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
    if len(x.shape) < 5:
        return _max_pool(x, pool_size)
    # Frames ride in the batch: the 2-D kernel exists for every dtype and is faster.
    batch, frames, height, width, channels = ops.shape(x)
    pooled = _max_pool(ops.reshape(x, (-1, height, width, channels)), pool_size)
    _, height, width, _ = ops.shape(pooled)
    return ops.reshape(pooled, (batch, frames, height, width, channels))


def _max_pool(x, pool_size):
    return ops.max_pool(
        x, pool_size, strides=pool_size, padding="valid", data_format="channels_last"
    )
