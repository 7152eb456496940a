"""Attention of non-local blocks, in the coordinates of the input."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_nonlocal.layers import BaseNonLocal, TokenGroups
from keras_nonlocal.receptive_field import Grid, feature_grid

_MOST_CALLS = 8  # of a layer, one for each group of positions


class AttentionMaps(NamedTuple):
    """Attention of one non-local block, and where its positions lie.

    Attributes:
        scores: f(x_i, x_j) / C(x), `(B, N, M)`, or `(B, K, M)` for K of the queries;
            0 for pairs that `scope` or `group_size` exclude.
        queries: `Grid` of the N positions i, in frames and pixels of the clip.
        keys: `Grid` of the M positions j; a pooled key has the centre of the four
            positions that it was pooled from.
        rows: Numbers of the queries in the rows of `scores`. None: all.
        row_groups: For each row, the number of the group that its query attends in.
        key_groups: The same for each key. None, for both: there is one group.
    """

    scores: np.ndarray
    queries: Grid
    keys: Grid
    rows: np.ndarray | None = None
    row_groups: np.ndarray | None = None
    key_groups: np.ndarray | None = None

    @property
    def centres(self) -> np.ndarray:
        """Centres of the queries in the rows of `scores`, `(K, axes)`."""
        centres = self.queries.centres
        return centres if self.rows is None else centres[self.rows]

    @property
    def attends(self) -> np.ndarray:
        """Whether the query of a row may attend to a key, bool `(K, M)`."""
        if self.row_groups is None:
            return np.ones(self.scores.shape[1:], bool)
        return self.row_groups[:, None] == self.key_groups


def non_local_blocks(model) -> dict[str, BaseNonLocal]:
    """The non-local blocks of a model by name, in the order of its layers."""
    return {x.name: x for x in model.layers if isinstance(x, BaseNonLocal)}


def attention_maps(model, clips, layer_name, positions=None) -> AttentionMaps:
    """Runs a model up to a non-local block and returns the block's attention.

    Args:
        model: Functional or Sequential `keras.Model` on channels-last inputs with
            a non-local block in it: C2D, I3D or one's own.
        clips: Input of the model, `(B, T, H, W, C)`; for models with 2-D or 1-D
            blocks of fewer axes.
        layer_name: Name of the block, such as `"res3_1_nonlocal"`.
        positions: None for all queries, or a list of `(t, y, x)` in frames and
            pixels: only the rows of the nearest queries are computed, of their groups
            alone where `scope` or `group_size` make groups. They are in `rows` of the
            result.

    Returns:
        `AttentionMaps`: scores, queries, keys. Memory grows as B*N*M, or as B*K*M
        for K positions.

    Raises:
        ValueError: No non-local block of this name; one that is called more than
            once, or behind layers that cannot be traced to the input.

    Example:
    >>> model = C2D(14, 2, (8, 64, 64, 3), width=8, non_local={"res3": [0]})
    >>> clips = np.zeros((1, 8, 64, 64, 3), "float32")
    >>> maps = attention_maps(model, clips, "res3_0_nonlocal")
    >>> maps.queries.stride
    (2.0, 8.0, 8.0)
    """
    return attention_of_blocks(model, clips, [layer_name], positions)[layer_name]


def attention_of_blocks(
    model, clips, layer_names=None, positions=None, max_rows=None
) -> dict[str, AttentionMaps]:
    """The attention of several non-local blocks, for which the model is run once.

    Args:
        model, clips, positions: See `attention_maps`.
        layer_names: None: all blocks of the model.
        max_rows: Instead of `positions`: the rows of at most this many queries, an
            even grid, are computed for each block.

    Returns:
        Dict from the names to `AttentionMaps`.

    Raises:
        ValueError: See `attention_maps`; a model without non-local blocks.

    Example:
    >>> model = C2D(14, 2, (8, 64, 64, 3), width=8, non_local={"res3": [0]})
    >>> clips = np.zeros((1, 8, 64, 64, 3), "float32")
    >>> maps = attention_of_blocks(model, clips, max_rows=20)["res3_0_nonlocal"]
    >>> maps.scores.shape
    (1, 18, 64)
    """
    names = list(non_local_blocks(model) if layer_names is None else layer_names)
    if not names:
        raise ValueError(f"'{model.name}' has no non-local blocks.")
    layers = [_non_local_layer(model, name) for name in names]
    features = _up_to(model, layers)(clips, training=False)
    found = {}
    for layer in layers:
        x = features[layer.name]
        queries, keys = _grids(layer, x.shape, clips.shape)
        rows = None
        if positions is not None:
            rows = _nearest(queries, positions)
        elif max_rows is not None:
            rows = queries.even(max_rows)
        found[layer.name] = _maps(layer, x, queries, keys, rows)
    return found


def top_connections(scores, query, k=20):
    """The keys that a query attends to most.

    Args:
        scores: Attention of one clip, `(N, M)`.
        query: Number of the query position, 0 to N - 1.
        k: How many; the paper draws 20.

    Returns:
        Numbers of the keys and their weights, `(k,)` each, the largest first.

    Raises:
        ValueError: `scores` is not a matrix, or `query` or `k` is outside it.

    Example:
    >>> keys, weights = top_connections([[0.2, 0.5, 0.3]], query=0, k=2)
    >>> keys.tolist(), weights.tolist()
    ([1, 2], [0.5, 0.3])
    """
    scores = np.asarray(scores)
    if scores.ndim != 2:
        raise ValueError(
            "Expected `scores` of one clip, (queries, keys). Received shape "
            f"{scores.shape}; take one clip with scores[0]."
        )
    ranges = (("query", query, len(scores)), ("k - 1", k - 1, scores.shape[1]))
    for name, value, end in ranges:
        if not 0 <= value < end:
            raise ValueError(f"Expected 0 <= {name} < {end}. Received: {value}.")
    keys = np.argsort(-scores[query], kind="stable")[:k]
    return keys, scores[query][keys]


# === Rows of scores ===


def _grids(layer, shape, input_shape):
    """Queries and keys."""
    queries = feature_grid(layer.input, tuple(shape[1:-1]), input_shape[1:-1])
    return queries, queries.pooled(layer.key_pool_sizes(len(shape) - 2))


def _nearest(queries, positions):
    points = np.asarray(positions, float)
    if points.ndim != 2 or len(points) == 0 or points.shape[1] != len(queries.shape):
        axes = ("t", "y", "x")[-len(queries.shape) :]
        raise ValueError(
            f"Expected `positions` as a list of ({', '.join(axes)}), in frames and "
            f"pixels. Received: positions={positions!r}."
        )
    return np.array([queries.nearest(*point) for point in points])


def _maps(layer, features, queries, keys, rows):
    rows = np.arange(len(queries.centres)) if rows is None else rows
    groups = [_groups(grid.shape, layer) for grid in (queries, keys)]
    of_row, of_key = (_group_of_each(numbers) for numbers in groups)
    of_row = of_row[rows]
    compute = _rows_at_once if len(np.unique(of_row)) > _MOST_CALLS else _rows_by_group
    blocks = compute(layer, features, queries.shape, groups[0], rows, of_row)
    dtype = "float64" if layer.compute_dtype == "float64" else "float32"
    scores = np.zeros((len(features), len(rows), len(of_key)), dtype)
    for group, chosen, part in blocks:
        scores[:, chosen[:, None], groups[1][group]] = part
    return AttentionMaps(scores, queries, keys, rows, of_row, of_key)


def _rows_by_group(layer, features, shape, groups, rows, of_row):
    """Yields groups, which of `rows` are theirs, and the scores of these alone.

    The positions of a group fill a box of the map, which is passed to the layer.
    """
    for group in np.unique(of_row):
        axes = np.unravel_index(groups[group], shape)
        box = tuple(slice(axis.min(), axis.max() + 1) for axis in axes)
        chosen = np.flatnonzero(of_row == group)
        inside = np.searchsorted(np.sort(groups[group]), rows[chosen])
        scores = _scores(layer, features[(slice(None), *box)], query_indices=inside)
        yield group, chosen, scores.reshape(len(scores), len(chosen), -1)


def _rows_at_once(layer, features, shape, groups, rows, of_row):
    """The same for many groups, along time: the maps of all groups are small."""
    scores = _scores(layer, features)
    scores = scores.reshape(len(scores), len(groups), *scores.shape[-2:])
    for group in np.unique(of_row):
        chosen = np.flatnonzero(of_row == group)
        inside = np.searchsorted(np.sort(groups[group]), rows[chosen])
        yield group, chosen, scores[:, group, inside]


def _scores(layer, features, **options):
    options = {"training": False, "return_attention_scores": True} | options
    return ops.convert_to_numpy(layer(features, **options)[1])


def _groups(shape, layer):
    """Numbers of the positions in each attention group, `(groups, positions)`."""
    numbers = np.arange(np.prod(shape), dtype="int32").reshape(1, *shape, 1)
    groups = TokenGroups(numbers.shape, layer.scope, layer.group_size)
    numbers = groups.from_map(ops.convert_to_tensor(numbers))
    return ops.convert_to_numpy(numbers)[..., 0]


def _group_of_each(groups):
    """The inverse: for each position the number of its group."""
    found = np.empty(groups.size, int)
    found[groups.ravel()] = np.repeat(np.arange(len(groups)), groups.shape[1])
    return found


# === Models ===


def _non_local_layer(model, name):
    blocks = non_local_blocks(model)
    if name not in blocks:
        raise ValueError(
            f"Expected `layer_name` to be a non-local block of '{model.name}', one "
            f"of {list(blocks)}. Received: {name!r}."
        )
    layer = blocks[name]
    if layer.data_format != "channels_last":
        raise ValueError(
            f"Layer '{name}' has data_format='{layer.data_format}'; attention maps "
            "need 'channels_last'."
        )
    return layer


def _up_to(model, layers):
    """The part of a model that computes the inputs of some layers."""
    try:
        inputs, features = model.inputs, {x.name: x.input for x in layers}
    except AttributeError as error:
        names = ", ".join(f"'{layer.name}'" for layer in layers)
        raise ValueError(
            f"Expected '{model.name}' to be a functional or Sequential model, already "
            f"built, that calls each of {names} once ({error})"
        ) from error
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, features)
