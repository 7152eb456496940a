"""Running sums over the rows of a matrix, fast and accurate."""

import numpy as np
from keras import ops

from keras_nonlocal.ops.chunks import ceil_divide

BLOCK = 64


def prefix_sums(x, reverse=False):
    """s_k = x_0 + ... + x_k or, `reverse`, x_k + ... + x_(R-1).

    Rows are summed in blocks of 64, and the blocks' totals in the same way: each sum
    takes few additions, so that float32 stays accurate over 10^6 rows. The sums of a
    block are a product with a triangle of ones, several times as fast as `ops.cumsum`.

    Args:
        x: `(B, R, d)`, floating point.
        reverse: Sum from the last row on.

    Returns:
        `(B, R, d)`.

    Example:
    >>> prefix_sums(np.ones((1, 3, 1)))[0, :, 0].numpy().tolist()
    [1.0, 2.0, 3.0]
    """
    x = ops.convert_to_tensor(x)
    batch, length, channels = ops.shape(x)
    if isinstance(length, int) and length <= BLOCK:
        return ops.matmul(_triangle(length, reverse, x.dtype), x)
    count = ceil_divide(length, BLOCK)
    x = _lengthen(x, count * BLOCK - length)
    blocks = ops.reshape(x, (batch, count, BLOCK, channels))
    within = ops.matmul(_triangle(BLOCK, reverse, x.dtype), blocks)
    totals = within[:, :, 0 if reverse else BLOCK - 1]  # (B, n, d)
    sums = within + _of_other_blocks(totals, reverse)[:, :, None]
    return ops.reshape(sums, (batch, count * BLOCK, channels))[:, :length]


def _triangle(size, reverse, dtype):
    ones = np.ones((size, size))
    return ops.convert_to_tensor(np.triu(ones) if reverse else np.tril(ones), dtype)


def _lengthen(x, missing):
    if isinstance(missing, int) and not missing:
        return x
    zeros = ops.zeros((ops.shape(x)[0], missing, ops.shape(x)[2]), dtype=x.dtype)
    return ops.concatenate([x, zeros], axis=1)


def _of_other_blocks(totals, reverse):
    """The sum of the blocks before (after, if `reverse`) each block."""
    nothing = ops.zeros_like(totals[:, :1])
    if reverse:
        return ops.concatenate([_sums(totals, True)[:, 1:], nothing], axis=1)
    return ops.concatenate([nothing, _sums(totals, False)[:, :-1]], axis=1)


def _sums(totals, reverse):
    if isinstance(totals.shape[1], int):
        return prefix_sums(totals, reverse)
    if not reverse:  # of unknown length, so that the depth of nesting is unknown
        return ops.cumsum(totals, axis=1)
    return ops.flip(ops.cumsum(ops.flip(totals, 1), axis=1), 1)
