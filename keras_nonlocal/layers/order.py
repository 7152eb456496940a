"""In which order the matrices of a block are multiplied: the cheapest exact one.

Matrix products associate. W_theta may meet the keys' side before the queries do, and
W_z the values before they are mixed: cheaper where keys are fewer than queries, and
the same numbers to rounding.
"""

import itertools
from typing import NamedTuple

from keras_nonlocal.ops import algorithms
from keras_nonlocal.ops.algorithms import Cost


class Sizes(NamedTuple):
    """Of one call.

    Attributes:
        groups: Sets of tokens that attend apart: batch times groups. None where
            unknown, and taken for 1.
        num_queries: N, or None.
        num_keys: M, or None.
        channels: C.
        width: d, of theta, phi and g.
        num_embedded: Positions that phi and g embed, before pooling if that comes
            after them; None where unknown.
    """

    groups: int | None
    num_queries: int | None
    num_keys: int | None
    channels: int
    width: int
    num_embedded: int | None


class Order(NamedTuple):
    """How one call is computed.

    Attributes:
        algorithm: Form of the pairwise product; see `ops.non_local`.
        fold_theta: W_theta meets the keys' side before the queries do.
        fold_w_z: W_z meets the values before they are mixed.
    """

    algorithm: str
    fold_theta: bool = False
    fold_w_z: bool = False


def cheapest_order(mode, algorithm, sizes):
    """The fastest `Order` by the cost model, within the memory budget.

    Args:
        mode: Pairwise function.
        algorithm: A form, or `"auto"` for any. Its maps then have to fit into
            `algorithms.MEMORY_BUDGET`; with N or M unknown, there are none.
        sizes: `Sizes`.
    """
    if sizes.num_queries is None or sizes.num_keys is None:
        algorithm = algorithms.LEAN[mode] if algorithm == "auto" else algorithm
        return next(possible_orders(mode, algorithm))
    orders = possible_orders(mode, algorithm)
    return min(orders, key=lambda order: _rank(mode, order, sizes))


def possible_orders(mode, algorithm):
    """Every `Order` of a mode, those that fold least first."""
    forms = ("dense", algorithms.LEAN[mode]) if algorithm == "auto" else (algorithm,)
    either = (False, True)
    for form in forms:
        fold_theta = either
        if mode in ("gaussian", "concatenation") or form == "chunked":
            fold_theta = (False,)  # no W_theta; a vector; no room for its bias
        yield from (
            Order(form, *fold) for fold in itertools.product(fold_theta, either)
        )


def _rank(mode, order, sizes):
    cost = block_cost(mode, order, sizes)
    has_maps = order.algorithm == "dense"
    return has_maps and cost.peak_bytes > algorithms.MEMORY_BUDGET, cost.time


def block_cost(mode, order, sizes):
    """`Cost` of the block: embeddings, pairwise product and W_z."""
    groups, n, m, c, d, embedded = sizes
    values = c if order.fold_w_z else d
    one = _keys(mode, m, c, d, embedded) + _outputs(order, n, m, c, d)
    one += _queries(mode, order, n, m, c, d, values)
    if order.algorithm == "linear":
        width = c if order.fold_theta else d
        one += Cost(m * d * d + n * width * values, peak=2 * width * values)
    else:
        width = c if order.fold_theta or mode == "gaussian" else d
        one += algorithms.cost(order.algorithm, mode, 1, n, m, width, values)
    return one.times(groups or 1)


def _keys(mode, m, c, d, embedded):
    """phi, where there is one, and g."""
    if mode == "gaussian":
        return Cost(embedded * c * d, peak=m * (c + d))
    if mode == "concatenation" and embedded == m:
        return Cost(m * c + embedded * c * d, peak=m * (c + d))
    return Cost(2 * embedded * c * d, peak=2 * m * d)


def _queries(mode, order, n, m, c, d, values):
    if mode == "gaussian":
        return Cost()
    if mode == "concatenation":
        return Cost(c * d + n * c)  # x times the vector W_theta w_f
    if not order.fold_theta:
        return _stored(n, c, d)
    return Cost(c * d * (values if order.algorithm == "linear" else m))


def _outputs(order, n, m, c, d):
    """W_z y, a map as large as x."""
    y = Cost(peak=n * c)
    if not order.fold_w_z:
        return y + _stored(n, d, c)
    return y + Cost((d if order.algorithm == "linear" else m) * d * c)


def _stored(n, channels_in, channels_out):
    """A projection with, at its narrow end, a tensor kept for the backward pass."""
    kept = n * min(channels_in, channels_out)
    return Cost(n * channels_in * channels_out, moved=6 * kept, peak=kept)
