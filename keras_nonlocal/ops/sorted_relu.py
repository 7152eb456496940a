"""y_i = sum_j ReLU(a_i + b_j) g_j without the map of all pairs."""

import numpy as np
from keras import ops

from keras_nonlocal.ops.backends import descending_order, refuse_second_order
from keras_nonlocal.ops.half_precision import at_least_float32
from keras_nonlocal.ops.prefix_sums import prefix_sums


def sorted_relu(a, b, g):
    """Sums ReLU(a_i + b_j) g_j over j in O((N + M) (log M + d)).

    With the keys in descending order of b, only the first k_i of them have
    a_i + b_j > 0: y_i = a_i S0[k_i] + S1[k_i], where S0 and S1 are the prefix sums of g
    and of b g. The gradients are of the same form:

        da_i = dy_i . S0[k_i]
        db_j = g_j . U0_j,  dg_j = U1_j + b_j U0_j

    with U0_j and U1_j the sums of dy_i and of a_i dy_i over the queries with
    a_i + b_j > 0. Pairs with a_i + b_j = 0 are left out, as in the gradient of ReLU.

    Args:
        a: `(B, N)`.
        b: `(B, M)`.
        g: `(B, M, d)`.

    Returns:
        `(B, N, d)`, in the dtype of `g`. Half precision is summed in float32.

    Example:
    >>> y = sorted_relu(np.ones((1, 2)), np.array([[-2.0, 3.0]]), np.ones((1, 2, 1)))
    >>> y[0, :, 0].numpy().tolist()
    [4.0, 4.0]
    """
    a, b, g = (ops.convert_to_tensor(t) for t in (a, b, g))
    return ops.cast(_sum(*map(at_least_float32, (a, b, g))), g.dtype)


@ops.custom_gradient
def _sum(a, b, g):
    a = _without_minus_infinity(a, b)
    b = _without_minus_infinity(b, a)
    a = a + _nan_of(_column(b))[..., 0]  # sorting would hide it
    order = descending_order(b)  # (B, M)
    ranked = _take(_column(b), order)[..., 0]
    counts = _count_above(ranked, -a)  # k_i: (B, N)
    # Moving the zero of both sides to a middle key changes no a_i + b_j, and keeps
    # the digits of the two terms of y_i where all of b lie close together.
    middle = ranked[:, ops.shape(ranked)[1] // 2][:, None]
    a, ranked = a + middle, ranked - middle
    a, weights = _column(a), _column(ranked)  # (B, N, 1), (B, M, 1)
    g = _take(g, order)
    sums = _with_zero(prefix_sums(g))  # S0: (B, M + 1, d)
    y = a * _take(sums, counts) + _take(_with_zero(prefix_sums(weights * g)), counts)

    def gradient(*args, upstream=None):
        refuse_second_order()
        dy = args[0] if upstream is None else upstream
        of_dy = _sums_by_key(dy, counts, ranked)  # U0: (B, M, d)
        of_a_dy = _sums_by_key(a * dy, counts, ranked) + _nan_of(a)
        back = ops.argsort(order, axis=1)
        db = ops.sum(g * of_dy, axis=-1, keepdims=True)
        return (
            ops.sum(dy * _take(sums, counts), axis=-1),
            _take(db, back)[..., 0],
            _take(of_a_dy + weights * of_dy, back),
        )

    return y, gradient


def _without_minus_infinity(x, others):
    """-inf as a finite number that also leaves out all pairs: 0 * -inf is NaN."""
    lowest = ops.minimum(-ops.max(others, axis=1, keepdims=True), 0)
    return ops.where(ops.equal(x, -np.inf), lowest, x)


def _nan_of(x):
    """`(B, 1, 1)`: NaN if x `(B, n, 1)` has one, as in the map of all pairs; else 0."""
    return ops.sum(ops.where(ops.isnan(x), x, 0), axis=1, keepdims=True)


def _column(x):
    """`(B, n)` as `(B, n, 1)`; x[..., None] of unknown sizes is not in LiteRT."""
    return ops.expand_dims(x, -1)


def _take(x, indices):
    """Rows `indices` `(B, n)` of `x` `(B, R, d)`: `(B, n, d)`."""
    batch, rows, channels = ops.shape(x)
    x = ops.reshape(x, (batch * rows, channels))
    taken = ops.take(x, _flat(indices, rows), axis=0)
    return ops.reshape(taken, (batch, ops.shape(indices)[1], channels))


def _flat(indices, rows):
    """Row indices of every sample as indices of all samples' rows: `(B * n,)`."""
    first = rows * ops.arange(ops.shape(indices)[0], dtype="int32")
    return ops.reshape(ops.cast(indices, "int32") + first[:, None], (-1,))


def _with_zero(sums):
    return ops.concatenate([ops.zeros_like(sums[:, :1]), sums], axis=1)


def _sums_by_key(x, counts, ranked):
    """Sums `x` `(B, N, d)` over the queries that count each key: `(B, M, d)`."""
    batch, _, channels = ops.shape(x)
    rows = ops.shape(ranked)[1] + 1
    x = ops.reshape(x, (-1, channels))
    bins = ops.segment_sum(x, _flat(counts, rows), batch * rows)
    bins = ops.reshape(bins, (batch, rows, channels))
    return prefix_sums(bins[:, 1:], reverse=True)


def _count_above(ranked, values):
    """How many of `ranked` (descending along axis 1) exceed each of `values`.

    A binary search, with a step for each digit of M, for all values of all samples at
    once: `ops.searchsorted` takes one sample, and cannot be exported to LiteRT or from
    PyTorch to ONNX.
    """
    length = ops.shape(ranked)[1]
    digits = length.bit_length() if isinstance(length, int) else 31
    counts = ops.zeros_like(values, dtype="int32")
    for step in (2**digit for digit in reversed(range(digits))):
        longer = counts + step
        last = _take(_column(ranked), ops.minimum(longer, length) - 1)[..., 0]
        counts = ops.where((longer <= length) & (last > values), longer, counts)
    return counts
