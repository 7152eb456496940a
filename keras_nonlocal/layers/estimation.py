"""Estimates of what a non-local block costs, without running it."""

import dataclasses
from collections.abc import Mapping

from keras_nonlocal.layers.base_non_local import BaseNonLocal
from keras_nonlocal.layers.contraction_order import block_cost, contraction_orders
from keras_nonlocal.layers.non_local_block import NonLocalBlock
from keras_nonlocal.ops.pairwise import PAIRWISE

_ITEMSIZES = {"bfloat16": 2, "float16": 2, "float64": 8}  # bytes; 4 in float32


@dataclasses.dataclass(frozen=True)
class FormEstimate:
    """One form of the block, in its cheapest contraction order.

    Attributes:
        algorithm: `"dense"`, `"linear"`, `"sorted"` or `"chunked"`.
        multiply_adds: Of a forward pass, projections included.
        training_multiply_adds: Of a forward and a backward pass.
        peak_bytes: Memory in training of embeddings, maps and W_z y, in the layer's
            compute dtype (softmax and running sums in float32 at least). Not counted:
            x, z, the normalisation and the backend's own (tens of MiB).
    """

    algorithm: str
    multiply_adds: int
    training_multiply_adds: int
    peak_bytes: int


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What each form of a block costs on one input shape; `str()` is a table.

    Attributes:
        input_shape: Of the block.
        num_queries: N, of each group of positions that attend to one another.
        num_keys: M, of each group.
        forms: A `FormEstimate` of each form of the mode.
        chosen: The algorithm that the block uses on this shape.
    """

    input_shape: tuple
    num_queries: int
    num_keys: int
    forms: tuple[FormEstimate, ...]
    chosen: str

    def __str__(self):
        lines = [
            f"{self.input_shape}: {self.num_queries} queries, {self.num_keys} keys",
            f"{'':2}{'algorithm':10}{'forward':>10}{'training':>10}{'peak memory':>14}",
        ]
        for form in self.forms:
            lines.append(
                f"{'*' if form.algorithm == self.chosen else '':2}{form.algorithm:10}"
                f"{form.multiply_adds / 1e9:8.2f} G"
                f"{form.training_multiply_adds / 1e9:8.2f} G"
                f"{form.peak_bytes / 2**20:10.0f} MiB"
            )
        return "\n".join([*lines, "* the one used; multiply-adds of the whole block"])


def estimate(layer_or_options, input_shape):
    """Multiply-adds and peak memory of each form of a non-local block.

    Args:
        layer_or_options: A non-local layer, or a dict of its arguments.
        input_shape: Of the layer, `(batch, ..., channels)`; no axis may be None.

    Returns:
        `Estimate`.

    Raises:
        ValueError: An undefined axis, or a shape that the layer refuses.
        TypeError: Neither a non-local layer nor a dict.

    Example:
    >>> estimate({"mode": "dot_product"}, (1, 32, 28, 28, 512)).chosen
    'linear'
    >>> estimate({}, (1, 4, 14, 14, 1024)).num_keys
    196
    """
    layer = _layer(layer_or_options)
    shape = tuple(input_shape)
    if None in shape:
        raise ValueError(
            "estimate: every axis of `input_shape` must be known. Received: "
            f"input_shape={shape}."
        )
    if 0 in shape:
        raise ValueError(f"estimate: an empty input. Received: input_shape={shape}.")
    channels = layer.g.input_spec.axes[-1] if layer.built else None
    layer = type(layer).from_config(layer.get_config())  # the argument is not changed
    layer.build(shape)
    if channels not in (None, layer.g.input_spec.axes[-1]):
        raise ValueError(
            f"estimate: the layer has been built on {channels} channels. Received: "
            f"input_shape={shape}."
        )
    sizes = layer.sizes_of(shape)
    itemsize = _ITEMSIZES.get(layer.compute_dtype, 4)
    algorithms = PAIRWISE[layer.mode].forms
    forms = tuple(_form(layer.mode, name, sizes, itemsize) for name in algorithms)
    chosen = layer.contraction_order_for(shape).algorithm
    return Estimate(shape, sizes.num_queries, sizes.num_keys, forms, chosen)


def _layer(layer_or_options):
    if isinstance(layer_or_options, BaseNonLocal):
        return layer_or_options
    if isinstance(layer_or_options, Mapping):
        return NonLocalBlock(**layer_or_options)
    raise TypeError(
        "estimate: expected a non-local layer or a dict of its arguments. Received: "
        f"{layer_or_options!r}."
    )


def _form(mode, algorithm, sizes, itemsize):
    orders = contraction_orders(mode, algorithm)
    cost = min((block_cost(mode, o, sizes) for o in orders), key=lambda c: c.time)
    multiply_adds = cost.multiply_adds, cost.training_multiply_adds
    return FormEstimate(algorithm, *multiply_adds, cost.bytes_in(itemsize))
