"""Argument and shape checks of the non-local layers."""

from collections.abc import Mapping

import numpy as np
from keras import ops

from keras_nonlocal.ops import KEY_POOL_SIZE, MODES
from keras_nonlocal.ops.pairwise import check_algorithm
from keras_nonlocal.validation import (
    check_choice,
    check_positive_int,
    invalid_argument,
)

POOL_POSITIONS = ("before", "after")
NORMALIZATIONS = ("batch", None)
SCOPES = ("spacetime", "space", "time")
DATA_FORMATS = ("channels_last", "channels_first")
CHOICES = {
    "mode": MODES,
    "pool_position": POOL_POSITIONS,
    "normalization": NORMALIZATIONS,
    "scope": SCOPES,
    "data_format": DATA_FORMATS,
    "sub_sample": (True, False),
    "use_scale": (True, False),
    "use_bias": (True, False),
    "use_output_bias": (True, False, None),
}
LAYOUTS = {
    1: "(batch, length, channels)",
    2: "(batch, height, width, channels)",
    3: "(batch, frames, height, width, channels)",
}


def check_arguments(layer):
    """Raises a `ValueError` for arguments that are wrong for any input."""
    owner = type(layer).__name__
    for argument, choices in CHOICES.items():
        check_choice(argument, getattr(layer, argument), choices, owner=owner)
    check_algorithm(layer.algorithm, layer.mode, owner=owner)
    for argument in ("intermediate_channels", "group_size"):
        value = getattr(layer, argument)
        if value is not None:
            check_positive_int(argument, value, owner=owner)
    if not isinstance(layer.normalization_options, (Mapping, type(None))):
        expected = "a dict of arguments of BatchNormalization"
        value = layer.normalization_options
        raise invalid_argument("normalization_options", value, expected, owner=owner)
    reserved = {"name", "dtype", "axis"} & set(layer.normalization_options or ())
    if reserved:
        raise ValueError(
            f"{owner}: `normalization_options` cannot hold {sorted(reserved)}, which "
            "the block sets. Leave them out."
        )
    if layer.group_size and layer.scope == "space":
        raise ValueError(
            f"{owner}: `group_size` divides the frames that attend to one another, "
            "but with scope='space' every frame attends to itself only. Leave "
            "`group_size` out, or use scope='spacetime'."
        )
    if layer.normalization_options and not layer.normalization:
        raise ValueError(
            f"{owner}: `normalization_options` were given with normalization=None. "
            "Use normalization='batch', or leave them out."
        )
    if layer.rank is not None:
        _check_frames_exist(layer, layer.rank)


def check_input_shape(layer, input_shape):
    """Raises a `ValueError` for inputs that the layer cannot be built on."""
    rank = len(input_shape) - 2
    expected = (layer.rank,) if layer.rank else tuple(LAYOUTS)
    if rank not in expected:
        layouts = " or ".join(f"rank {r + 2}, {LAYOUTS[r]}" for r in expected)
        raise ValueError(
            f"{_where(layer)} expects inputs of {layouts}. "
            f"Received: input_shape={tuple(input_shape)}."
        )
    _check_frames_exist(layer, rank)
    if not input_shape[1 if layer.data_format == "channels_first" else -1]:
        raise ValueError(
            f"{_where(layer)}: the channel axis must be defined. Received: "
            f"input_shape={tuple(input_shape)}, data_format={layer.data_format!r}."
        )
    check_call_shape(layer, input_shape)


def check_call_shape(layer, input_shape):
    """Raises a `ValueError` for maps too small to pool, or frames left over."""
    axes = known_sizes(input_shape[1:])
    axes.pop(0 if layer.data_format == "channels_first" else -1)
    windows = zip(axes, layer.key_pool_sizes(len(axes)), strict=True)
    if any(size is not None and size < window > 1 for size, window in windows):
        raise ValueError(
            f"{_where(layer)}: the map is too small for its keys to be pooled by "
            f"{KEY_POOL_SIZE}. Use sub_sample=False, or a larger input. "
            f"{_received(layer, input_shape)}"
        )
    if layer.group_size and axes[0] is not None and axes[0] % layer.group_size:
        raise ValueError(
            f"{_where(layer)}: the number of frames, {axes[0]}, is not a multiple of "
            f"group_size={layer.group_size}. Use a group_size that divides it, or "
            f"another number of frames. {_received(layer, input_shape)}"
        )


def _received(layer, input_shape):
    return (
        f"Received: input_shape={tuple(input_shape)}, "
        f"data_format={layer.data_format!r}."
    )


def known_sizes(shape):
    """The sizes of a shape; None for unknown ones.

    Those are None on TensorFlow; in exports from JAX and PyTorch they are symbols,
    which have no order.
    """
    return [size if isinstance(size, int) else None for size in shape]


def check_query_indices(layer, indices, num_queries, return_attention_scores):
    """Raises a `ValueError` for rows that the attention map does not have."""
    if not return_attention_scores:
        raise ValueError(
            f"{_where(layer)}: `query_indices` chooses rows of the attention scores. "
            "Pass return_attention_scores=True with it."
        )
    if ops.is_tensor(indices) and not _has_values(indices):
        return  # a tensor of a graph, whose caller has to keep it within the map
    rows = np.asarray(indices)
    end = np.inf if num_queries is None else num_queries
    whole = rows.ndim == 1 and rows.size and rows.dtype.kind in "iu"
    if not whole or rows.min() < 0 or rows.max() >= end:
        raise ValueError(
            f"{_where(layer)}: expected `query_indices` as a list of whole numbers "
            f"from 0 to {'N - 1' if num_queries is None else num_queries - 1}, "
            f"positions in row-major order. Received: query_indices={indices!r}."
        )


def _has_values(tensor):
    try:
        np.asarray(tensor)
    except (NotImplementedError, TypeError):  # of TensorFlow's graphs and JAX's
        return False
    return True


def _check_frames_exist(layer, rank):
    if rank == 3 or (layer.scope == "spacetime" and layer.group_size is None):
        return
    raise ValueError(
        f"{_where(layer)}: scope={layer.scope!r} with group_size={layer.group_size} "
        f"needs a time axis, {LAYOUTS[3]}; this layer works on {LAYOUTS[rank]}. Use "
        "scope='spacetime' and group_size=None, which attend to every position."
    )


def _where(layer):
    return f"{type(layer).__name__} {layer.name!r}"
