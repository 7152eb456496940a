"""In which order the matrices of a block are multiplied: the cheapest exact one.

Matrix products associate. The keys may be multiplied by W_theta instead of the
queries, and the values by W_z before they are mixed instead of after: cheaper where
keys are fewer than queries, and the same numbers to rounding.
"""

import dataclasses
import itertools
from typing import NamedTuple

from keras_nonlocal.ops.cost import Cost, cheapest
from keras_nonlocal.ops.pairwise import PAIRWISE, candidates, pairwise_cost


class Sizes(NamedTuple):
    """Of one call.

    Attributes:
        groups: Sets of tokens that attend apart: batch times groups. None where
            unknown, and counted as 1.
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


@dataclasses.dataclass(frozen=True)
class ContractionOrder:
    """How one call is computed.

    Attributes:
        algorithm: Form of the pairwise function; see `ops.non_local`.
        fold_theta: W_theta multiplies the keys' side instead of the queries.
        fold_w_z: W_z multiplies the values before they are mixed.
    """

    algorithm: str
    fold_theta: bool = False
    fold_w_z: bool = False


def cheapest_order(mode, algorithm, sizes):
    """The `ContractionOrder` of the least block cost, by the rule of `cheapest`.

    Args:
        mode: Pairwise function.
        algorithm: A form, or `"auto"` for any; with N or M unknown, for the lean one
            and no folding.
        sizes: `Sizes`.
    """
    forms = candidates(mode, algorithm, sizes.num_queries, sizes.num_keys)
    orders = [order for form in forms for order in contraction_orders(mode, form)]
    if sizes.num_queries is None or sizes.num_keys is None:
        return orders[0]
    return cheapest({order: block_cost(mode, order, sizes) for order in orders})


def contraction_orders(mode, algorithm):
    """Every `ContractionOrder` of a form, those that fold least first."""
    either = (False, True)
    fold_theta = either if _can_fold_theta(mode, algorithm) else (False,)
    return [
        ContractionOrder(algorithm, *folds)
        for folds in itertools.product(fold_theta, either)
    ]


def _can_fold_theta(mode, algorithm):
    pairwise = PAIRWISE[mode]
    if not pairwise.embeds or pairwise.takes_concat_kernel:
        return False  # there is no W_theta, or it is multiplied by a vector
    return algorithm != "chunked"  # which takes no bias of the keys


def block_cost(mode, order, sizes):
    """`Cost` of the block: embeddings, pairwise function and W_z."""
    groups, n, m, c, d, embedded = sizes
    groups = groups or 1
    values = c if order.fold_w_z else d
    cost = _keys(mode, m, c, d, embedded) + _outputs(order, n, m, c, d)
    cost = (cost + _queries(mode, order, n, m, c, d, values)).times(groups)
    width = c if order.fold_theta or not PAIRWISE[mode].embeds else d
    if order.algorithm != "linear":
        sizes = (groups, n, m, width, values)
        return cost + pairwise_cost(mode, order.algorithm, *sizes)
    # Its d x d context is folded, not the keys and values.
    one = Cost(m * d * d + n * width * values, peak=2 * width * values)
    return cost + one.times(groups)


def _keys(mode, m, c, d, embedded):
    """g, and phi if there is one."""
    pairwise = PAIRWISE[mode]
    if not pairwise.embeds:
        return Cost(embedded * c * d, peak=m * (c + d))
    if pairwise.takes_concat_kernel and embedded == m:
        return Cost(m * c + embedded * c * d, peak=m * (c + d))
    return Cost(2 * embedded * c * d, peak=2 * m * d)


def _queries(mode, order, n, m, c, d, values):
    pairwise = PAIRWISE[mode]
    if not pairwise.embeds:
        return Cost()
    if pairwise.takes_concat_kernel:
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
    """A projection whose narrower side is kept for the backward pass."""
    kept = n * min(channels_in, channels_out)
    return Cost(n * channels_in * channels_out, moved=6 * kept, peak=kept)
