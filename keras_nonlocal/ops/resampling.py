"""Maps in the sizes of other maps, as PyTorch defines them."""

from keras import ops


def nearest(x, height, width):
    """Repeats or leaves out positions: PyTorch's `interpolate(mode="nearest")`.

    Args:
        x: `(B, H, W, C)`.
        height, width: Of the result.

    Returns:
        `(B, height, width, C)`.

    Example:
    >>> row = np.arange(3.0)[None, None, :, None]
    >>> keras.ops.convert_to_numpy(nearest(row, 1, 5))[0, 0, :, 0].tolist()
    [0.0, 0.0, 1.0, 1.0, 2.0]
    """
    for axis, size in ((1, height), (2, width)):
        x = ops.take(x, _nearest(ops.shape(x)[axis], size), axis=axis)
    return x


def _nearest(length, size):
    """Index of the source of each position: floor(i * length / size)."""
    # In float32, which PyTorch rounds in, too.
    step = ops.cast(length, "float32") / ops.cast(size, "float32")
    index = ops.floor(ops.cast(ops.arange(size), "float32") * step)
    return ops.minimum(ops.cast(index, "int32"), length - 1)


def adaptive_max_pool(x, height, width):
    """The maximum in windows that cover the map: PyTorch's `adaptive_max_pool2d`.

    Window i reaches from floor(i H / height) to ceil((i + 1) H / height).

    Args:
        x: `(B, H, W, C)`.
        height, width: Of the result.

    Returns:
        `(B, height, width, C)`.

    Example:
    >>> row = np.array([5.0, 1, 2, 3, 4])[None, None, :, None]
    >>> keras.ops.convert_to_numpy(adaptive_max_pool(row, 1, 3))[0, 0, :, 0].tolist()
    [5.0, 3.0, 4.0]
    """
    for axis, size in ((1, height), (2, width)):
        index = _windows(ops.shape(x)[axis], size)
        shape = ops.shape(x)
        taken = ops.take(x, ops.reshape(index, (-1,)), axis=axis)
        windows = (*shape[:axis], size, -1, *shape[axis + 1 :])
        x = ops.max(ops.reshape(taken, windows), axis=axis + 1)
    return x


def _windows(length, size):
    """Indices `(size, n)` of the positions in each window, the last one repeated."""
    i = ops.arange(size)[:, None]
    last = ((i + 1) * length - 1) // size
    return ops.minimum(i * length // size + ops.arange(length // size + 2), last)
