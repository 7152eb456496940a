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
    options = {"strides": pool_size, "data_format": "channels_last"}
    if len(x.shape) < 5:
        return ops.max_pool(x, pool_size, **options)
    # Frames join the batch: the 2-D kernel exists for every dtype and is faster.
    batch, frames, *image = ops.shape(x)
    pooled = ops.max_pool(ops.reshape(x, (-1, *image)), pool_size, **options)
    return ops.reshape(pooled, (batch, frames, *ops.shape(pooled)[1:]))
