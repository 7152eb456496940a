"""Which queries are worth a look, and how much attention depends on the query."""

from typing import NamedTuple

import numpy as np

_MOST_ROWS = 256  # of which pairs are compared


class QueryIndependence(NamedTuple):
    """How much the attention of a block depends on the query.

    Attributes:
        divergence: Mean Jensen-Shannon divergence of two queries' rows, from 0 (the
            same attention for all queries) to 1 (no key in common).
        cosine_distance: Mean of (1 - cos) / 2 of two queries' rows, GCNet's measure:
            from 0 (the same) to 0.5 (orthogonal) and 1 (opposite).
        entropy: Mean entropy of a row, from 0 (one key) to 1 (all keys alike).
    """

    divergence: float
    cosine_distance: float
    entropy: float


def query_independence(maps) -> QueryIndependence:
    """Measures how query-independent a block's attention is, as GCNet claims it is.

    With rows w_i of the map and p_ij = |w_ij| / sum_j |w_ij|, over pairs i != k of
    queries that may attend to the same keys (`scope`, `group_size`), of clip 0:

        divergence = mean_ik [H((p_i + p_k) / 2) - (H(p_i) + H(p_k)) / 2] / log 2
        cosine_distance = mean_ik (1 - w_i . w_k / (|w_i| |w_k|)) / 2
        entropy = mean_i H(p_i) / log M,   H(p) = -sum_j p_j log p_j

    M is the number of keys that a query may attend to. A network whose queries all
    attend to the same keys has 0, 0 and any entropy: its block could be a global
    context block.

    Args:
        maps: `AttentionMaps`. Of more than 256 rows evenly spaced ones are compared.

    Returns:
        `QueryIndependence`. Where no two queries share keys, divergence and distance
        are NaN.

    Example:
    >>> rows = np.array([[[1.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0]]])
    >>> grid = keras_nonlocal.receptive_field.Grid((2,), (0.0,), (1.0,))
    >>> maps = keras_nonlocal.visualize.AttentionMaps(rows, grid, grid)
    >>> np.round(query_independence(maps), 3).tolist()
    [1.0, 0.5, 0.25]

    Reference: [Cao et al., 2019](https://arxiv.org/abs/1904.11492)
    """
    chosen = np.unique(np.linspace(0, maps.scores.shape[1] - 1, _MOST_ROWS).astype(int))
    rows = maps.scores[0, chosen].astype("float64")
    attends = maps.attends[chosen]
    p = np.abs(rows) / np.abs(rows).sum(axis=1, keepdims=True).clip(1e-30)
    entropy = _entropy(p)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-30)
    groups = np.zeros(len(p)) if maps.row_groups is None else maps.row_groups[chosen]
    divergences, cosines = [], []
    for i in range(len(p) - 1):
        others = i + 1 + np.flatnonzero(groups[i + 1 :] == groups[i])
        mixed = _entropy((p[i] + p[others]) / 2)
        divergences.append((mixed - (entropy[i] + entropy[others]) / 2) / np.log(2))
        cosines.append(unit[others] @ unit[i])
    limit = np.log(np.maximum(attends.sum(axis=1), 2))
    return QueryIndependence(
        _mean(divergences), (1 - _mean(cosines)) / 2, float((entropy / limit).mean())
    )


def interesting_queries(maps, k=4) -> np.ndarray:
    """Chooses queries whose attention says more than that of the others.

    The interest of query i is what sets its row apart from the mean row m of the
    queries that may attend to the same keys, with p as in `query_independence`,

        sum_j p_ij log(p_ij / m_j),

    over the keys j that are not next to i itself: attention to one's own place says
    little. Of two queries within an eighth of the clip's extent along each axis the
    less interesting is left out.

    Args:
        maps: `AttentionMaps`; clip 0 is taken.
        k: How many at most.

    Returns:
        Indices of rows of `maps.scores[0]`, the most interesting first.

    Example:
    >>> grid = keras_nonlocal.receptive_field.Grid((6,), (0.0,), (1.0,))
    >>> rows = np.full((1, 6, 6), 1 / 6)
    >>> rows[0, 1] = [0, 0, 0, 0, 0, 1]
    >>> maps = keras_nonlocal.visualize.AttentionMaps(rows, grid, grid)
    >>> int(interesting_queries(maps, k=1)[0])
    1
    """
    rows = np.abs(maps.scores[0].astype("float64"))
    p = rows / rows.sum(axis=1, keepdims=True).clip(1e-30)
    distance = np.abs(maps.centres[:, None] - maps.keys.centres)
    is_near = (distance <= np.asarray(maps.keys.stride)).all(axis=2)
    surprise = p * (np.log(p.clip(1e-30)) - np.log(_mean_rows(p, maps).clip(1e-30)))
    interest = np.where(is_near, 0, surprise).sum(axis=1)
    return _apart(interest, maps, k)


def _apart(interest, maps, k):
    extent = np.asarray(maps.queries.shape) * np.asarray(maps.queries.stride) / 8
    chosen = []
    for row in np.argsort(-interest, kind="stable"):
        distance = np.abs(maps.centres[chosen] - maps.centres[row])
        if not (distance <= extent).all(axis=1).any():
            chosen.append(row)
        if len(chosen) == k:
            break
    return np.array(chosen)


def _mean_rows(p, maps):
    """For each row, the mean of the rows of its group."""
    if maps.row_groups is None:
        return np.broadcast_to(p.mean(axis=0), p.shape)
    mean = np.empty_like(p)
    for group in np.unique(maps.row_groups):
        members = maps.row_groups == group
        mean[members] = p[members].mean(axis=0)
    return mean


def _entropy(p):
    return -np.sum(p * np.log(p.clip(1e-300)), axis=-1)


def _mean(parts):
    values = np.concatenate(parts) if parts else np.empty(0)
    return float(values.mean()) if values.size else float("nan")
