"""Attention of a non-local block, drawn over the frames (paper, Fig. 3).

maps = attention_maps(model, clips, "res3_1_nonlocal")
query = maps.queries.nearest(3, 40, 60)  # frame 3, row 40, column 60
keys, weights = top_connections(maps.scores[0], query)
figure = draw_arrows(
    clip, maps.queries.centres[query], maps.keys.centres[keys], weights
)
figure.savefig("attention.png")
"""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_nonlocal.layers import BaseNonLocal, TokenGroups
from keras_nonlocal.receptive_field import Grid, feature_grid

_GAP = 4  # pixels between frames


class AttentionMaps(NamedTuple):
    """Attention of one non-local block, and where its positions lie.

    Attributes:
        scores: f(x_i, x_j) / C(x), `(B, N, M)`, or `(B, K, M)` for K `positions`;
            0 for pairs that `scope` or `group_size` exclude.
        queries: `Grid` of the N positions i, in frames and pixels of the clip.
        keys: `Grid` of the M positions j; a pooled key has the centre of the four
            positions that it was pooled from.
        rows: Numbers of the queries in the rows of `scores`.
    """

    scores: np.ndarray
    queries: Grid
    keys: Grid
    rows: np.ndarray | None = None


def attention_maps(model, clips, layer_name, positions=None) -> AttentionMaps:
    """Runs a model up to a non-local block and returns the block's attention.

    Args:
        model: Functional or Sequential `keras.Model` on channels-last inputs with
            a non-local block in it: C2D, I3D or one's own.
        clips: Input of the model, `(B, T, H, W, C)`; for models with 2-D or 1-D
            blocks of fewer axes.
        layer_name: Name of the block, such as `"res3_1_nonlocal"`.
        positions: None for all queries, or a list of `(t, y, x)` in frames and
            pixels: only the rows of the nearest queries are computed (of blocks
            without `scope` and `group_size`). They are in `rows` of the result.

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
    layer = _non_local_layer(model, layer_name)
    features = _up_to(model, layer)(clips, training=False)
    shape = tuple(features.shape[1:-1])
    queries = feature_grid(layer.input, shape, clips.shape[1:-1])
    keys = queries.pooled(layer.key_pool_sizes(len(shape)))
    rows = None if positions is None else _nearest(queries, positions)
    scores = _rows_of_scores(layer, features, rows, queries, keys)
    rows = np.arange(scores.shape[1]) if rows is None else rows
    return AttentionMaps(scores, queries, keys, rows)


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


def draw_arrows(frames, source, targets, weights=None, *, axes=None):
    """Frames in a row, with arrows from one position to others, as in Fig. 3.

    A position between two frames (after a stride in time) is drawn in the earlier.

    Args:
        frames: Images `(T, H, W, 3)`, uint8, or floats in [0, 1].
        source: `(t, y, x)` of the query, in frames and pixels.
        targets: `(k, 3)`, the same of the keys.
        weights: `(k,)`; stronger connections are drawn more opaque. None: all
            alike.
        axes: `matplotlib.axes.Axes`. None: those of a new figure.

    Returns:
        `matplotlib.figure.Figure`; save it with `savefig`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: Wrong shapes; a position outside the frames.

    Example:
    >>> frames = np.zeros((8, 64, 64, 3), "uint8")
    >>> figure = draw_arrows(frames, (7, 20, 30), [(0, 40, 50)])  # doctest: +SKIP
    >>> figure.savefig("attention.png")  # doctest: +SKIP
    """
    frames = np.asarray(frames)
    points = np.vstack([np.reshape(source, (1, -1)), np.asarray(targets)])
    _check_points(frames, points)
    weights = np.ones(len(points) - 1) if weights is None else np.asarray(weights)
    ends = strip_coordinates(points, frames.shape[2])
    axes = axes or _new_axes(frames.shape)
    _show_strip(axes, frames)
    for end, weight in zip(ends[1:], weights / weights.max(), strict=True):
        _add_arrow(axes, ends[0], end, weight)
    axes.plot(*ends[0], "o", color="white", markersize=7, markeredgecolor="black")
    return axes.figure


def strip_coordinates(points, frame_width):
    """`(t, y, x)` to `(x, y)` in the row of frames that `draw_arrows` shows."""
    t, y, x = np.asarray(points, float).T
    return np.stack([np.floor(t) * (frame_width + _GAP) + x, y], axis=1)


# === Attention maps ===


def _nearest(queries, positions):
    points = np.asarray(positions, float)
    if points.ndim != 2 or len(points) == 0 or points.shape[1] != len(queries.shape):
        axes = ("t", "y", "x")[-len(queries.shape) :]
        raise ValueError(
            f"Expected `positions` as a list of ({', '.join(axes)}), in frames and "
            f"pixels. Received: positions={positions!r}."
        )
    return np.array([queries.nearest(*point) for point in points])


def _rows_of_scores(layer, features, rows, queries, keys):
    options = {"training": False, "return_attention_scores": True}
    if layer.scope == "spacetime" and layer.group_size is None:
        return ops.convert_to_numpy(layer(features, query_indices=rows, **options)[1])
    scores = ops.convert_to_numpy(layer(features, **options)[1])  # groups are small
    scores = _scatter(scores, layer, queries, keys)
    return scores if rows is None else scores[:, rows]


def _non_local_layer(model, name):
    blocks = [x.name for x in model.layers if isinstance(x, BaseNonLocal)]
    if name not in blocks:
        raise ValueError(
            f"Expected `layer_name` to be a non-local block of '{model.name}', one "
            f"of {blocks}. Received: {name!r}."
        )
    layer = model.get_layer(name)
    if layer.data_format != "channels_last":
        raise ValueError(
            f"Layer '{name}' has data_format='{layer.data_format}'; attention maps "
            "need 'channels_last'."
        )
    return layer


def _up_to(model, layer):
    """The part of a model that computes the input of a layer."""
    try:
        inputs, features = model.inputs, layer.input
    except AttributeError as error:
        raise ValueError(
            f"Expected '{model.name}' to be a functional or Sequential model, already "
            f"built, that calls layer '{layer.name}' once ({error})"
        ) from error
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, features)


def _scatter(scores, layer, queries, keys):
    """Scores within groups as one matrix per clip, `(B, N, M)`."""
    if scores.ndim == 3:
        return scores
    rows, columns = (_groups(grid.shape, layer) for grid in (queries, keys))
    scores = scores.reshape(len(scores), len(rows), rows.shape[1], columns.shape[1])
    full = np.zeros((len(scores), rows.size, columns.size), scores.dtype)
    for group, (row, column) in enumerate(zip(rows, columns, strict=True)):
        full[:, row[:, None], column] = scores[:, group]
    return full


def _groups(shape, layer):
    """Numbers of the positions in each attention group, `(groups, positions)`."""
    numbers = np.arange(np.prod(shape), dtype="int32").reshape(1, *shape, 1)
    groups = TokenGroups(numbers.shape, layer.scope, layer.group_size)
    numbers = groups.from_map(ops.convert_to_tensor(numbers))
    return ops.convert_to_numpy(numbers)[..., 0]


# === Drawing ===


def _check_points(frames, points):
    if frames.ndim != 4 or points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(
            "Expected `frames` (T, H, W, channels) and positions (t, y, x). Received "
            f"shapes {frames.shape} and {points.shape}."
        )
    if (points < -0.5).any() or (points > np.array(frames.shape[:3]) - 0.5).any():
        raise ValueError(
            "A position lies outside the frames, (T, H, W) = "
            f"{frames.shape[:3]}. Were they the input that the scores came from?"
        )


def _new_axes(frames_shape):
    """Axes that fill a new figure, in the proportions of the frames in a row."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Drawing needs matplotlib: pip install matplotlib (or the [train] extra "
            "of keras_nonlocal)."
        ) from error
    num_frames, height, width = frames_shape[:3]
    figure = Figure(figsize=(12, 12 * height / _strip_width(num_frames, width)))
    return figure.add_axes((0, 0, 1, 1))


def _show_strip(axes, frames):
    """Frames side by side, in axes whose unit is a pixel."""
    num_frames, height, width = frames.shape[:3]
    for t, frame in enumerate(frames):
        left = t * (width + _GAP) - 0.5
        axes.imshow(frame, extent=(left, left + width, height - 0.5, -0.5))
    right = _strip_width(num_frames, width) - 0.5
    axes.set(xlim=(-0.5, right), ylim=(height - 0.5, -0.5))
    axes.axis("off")


def _strip_width(num_frames, width):
    return num_frames * (width + _GAP) - _GAP


def _add_arrow(axes, start, end, weight):
    style = {"arrowstyle": "-|>", "color": "gold", "linewidth": 1.5}
    style |= {"alpha": 0.25 + 0.75 * float(weight), "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)
