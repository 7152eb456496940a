"""Multiply-adds of a built layer for one clip or image, counted from shapes."""

import dataclasses
import functools
import math

from keras import layers

from keras_nonlocal.layers import BaseNonLocal


@dataclasses.dataclass(frozen=True)
class Macs:
    """Multiply-adds for one clip or image, by kind.

    Attributes:
        convolutions: Of the ResNet, of the pyramid and of detection's heads.
        embeddings: theta, phi, g and W_z of non-local blocks.
        pairwise: Their pairwise functions after Eqs. 2-5 (forms may need fewer).
        classifier: The fully connected layers, in detection of the box head.
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
def count_macs(layer, input_shape, output_shape):
    """`Macs` of a layer for a batch; pooling, normalisation and sums count 0."""
    return Macs()


@count_macs.register(layers.Conv2D)
@count_macs.register(layers.Conv3D)
def _(layer, input_shape, output_shape):
    positions = math.prod(output_shape[:-1])
    return Macs(convolutions=positions * math.prod(layer.kernel.shape))


@count_macs.register
def _(layer: layers.Conv2DTranspose, input_shape, output_shape):
    positions = math.prod(input_shape[:-1])
    return Macs(convolutions=positions * math.prod(layer.kernel.shape))


@count_macs.register
def _(layer: layers.Dense, input_shape, output_shape):
    return Macs(classifier=math.prod(input_shape[:-1]) * math.prod(layer.kernel.shape))


@count_macs.register
def _(layer: BaseNonLocal, input_shape, output_shape):
    sizes = layer.sizes_of(input_shape)
    queries, keys = sizes.groups * sizes.num_queries, sizes.groups * sizes.num_keys
    embedded = keys if layer.pool_position == "before" else queries
    positions = {"theta": queries, "phi": embedded, "g": embedded, "w_z": queries}
    embeddings = sum(
        count * math.prod(getattr(layer, name).kernel.shape)
        for name, count in positions.items()
        if getattr(layer, name) is not None
    )
    # f(x_i, x_j) for all pairs that attend to one another, times g(x_j).
    pairs = queries * sizes.num_keys
    width = layer.phi.units if layer.phi else sizes.channels
    # The halves of w_f are multiplied by each position once.
    products = queries + keys if layer.mode == "concatenation" else pairs
    pairwise = products * width + pairs * layer.g.units
    return Macs(embeddings=embeddings, pairwise=pairwise)
