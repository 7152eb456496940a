"""Multiply-adds of a built layer for one clip, counted from shapes."""

import dataclasses
import functools
import math

from keras import layers

from keras_nonlocal.layers import BaseNonLocal


@dataclasses.dataclass(frozen=True)
class Macs:
    """Multiply-adds for one clip, by kind.

    Attributes:
        convolutions: Of the ResNet.
        embeddings: theta, phi, g and W_z of non-local blocks.
        pairwise: Their pairwise functions after Eqs. 2-5 (forms may need fewer).
        classifier: The fully connected layer.
    """

    convolutions: int = 0
    embeddings: int = 0
    pairwise: int = 0
    classifier: int = 0

    def __add__(self, other):
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Macs(*(a + b for a, b in pairs))

    @property
    def total(self):
        """Sum of all kinds."""
        return sum(dataclasses.astuple(self))


@functools.singledispatch
def count_macs(layer):
    """`Macs` of a layer for one clip; pooling, normalisation and sums count 0."""
    return Macs()


@count_macs.register(layers.Conv2D)
@count_macs.register(layers.Conv3D)
def _(layer):
    positions = math.prod(layer.output.shape[1:-1])
    return Macs(convolutions=positions * math.prod(layer.kernel.shape))


@count_macs.register
def _(layer: layers.Dense):
    return Macs(classifier=math.prod(layer.kernel.shape))


@count_macs.register
def _(layer: BaseNonLocal):
    one = layer.sizes_of((1, *layer.input.shape[1:]))
    queries, keys = one.groups * one.num_queries, one.groups * one.num_keys
    embedded = keys if layer.pool_position == "before" else queries
    sizes = {"theta": queries, "phi": embedded, "g": embedded, "w_z": queries}
    embeddings = sum(
        positions * math.prod(getattr(layer, name).kernel.shape)
        for name, positions in sizes.items()
        if getattr(layer, name) is not None
    )
    # f(x_i, x_j) for all pairs that attend to one another, times g(x_j).
    pairs = queries * one.num_keys
    width = layer.phi.units if layer.phi else one.channels
    # The halves of w_f are multiplied by each position once.
    products = queries + keys if layer.mode == "concatenation" else pairs
    pairwise = products * width + pairs * layer.g.units
    return Macs(embeddings=embeddings, pairwise=pairwise)
