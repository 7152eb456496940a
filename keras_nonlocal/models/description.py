"""What a built network is made of, part by part."""

import dataclasses
import math

import keras
from keras import layers

from keras_nonlocal.layers import BaseNonLocal, FrozenBatchNorm
from keras_nonlocal.models.complexity import Macs, count_macs
from keras_nonlocal.models.detector import MULTIPLE
from keras_nonlocal.models.rcnn import RCNN


@dataclasses.dataclass(frozen=True)
class Part:
    """A stage of the network: `conv1`, `pool1`, `res2`... or a detector's head.

    Attributes:
        name: What its layers' names start with.
        output_shape: `(T, H, W, C)`, `(H, W, C)` or `(C,)`; of heads for one region.
        non_local_blocks: Names of its non-local blocks.
        params: Number of trained parameters.
        macs: `Macs`.
    """

    name: str
    output_shape: tuple[int, ...]
    non_local_blocks: tuple[str, ...]
    params: int
    macs: Macs


@dataclasses.dataclass(frozen=True)
class Description:
    """A network's parts, from input to output, and their sums; `str()` is a table.

    Multiply-adds are for one clip or image. Parameters are those that are trained: all
    weights but the moving statistics of batch normalisation, and frozen ones.

    Attributes:
        name: The model's name.
        input_shape: `(T, H, W, C)` or `(H, W, C)`.
        parts: Tuple of `Part`.
    """

    name: str
    input_shape: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def params(self):
        """Number of trained parameters."""
        return sum(part.params for part in self.parts)

    @property
    def macs(self):
        """`Macs` of the whole network."""
        return sum((part.macs for part in self.parts), Macs())

    @property
    def gmacs(self):
        """Multiply-adds for one clip or image, in 10^9."""
        return self.macs.total / 1e9

    @property
    def non_local_blocks(self):
        """Names of all non-local blocks, in order."""
        return sum((part.non_local_blocks for part in self.parts), ())

    def __str__(self):
        return "\n".join(_table(self))


def describe(model, input_shape=None):
    """Describes a C2D, an I3D, a Mask R-CNN or a Keypoint R-CNN.

    A detector's box head is counted for 1000 proposals, its other head for as many
    boxes as it may detect (100).

    Args:
        model: Functional `keras.Model`, or a detector.
        input_shape: What to count for: `(T, H, W, C)` of a video network, (height,
            width) of a detector's resized images, which are padded to multiples of 32.
            None: the model's own; of a detector, an image of 4:3.

    Returns:
        `Description`.

    Raises:
        ValueError: There is no static input shape.

    Example:
    >>> description = describe(C2D(101, non_local=5))
    >>> f"{description.params / 1e6:.2f}M {description.gmacs:.2f}G"
    '50.68M 42.27G'
    """
    if isinstance(model, RCNN):
        shape, networks = _of_detector(model, input_shape)
    else:
        shape = tuple(input_shape or model.input_shape[1:])
        networks = [(model, [(1, *shape)])]
    if None in shape:
        raise ValueError(
            f"describe needs sizes to count with, and the input of model "
            f"{model.name!r} is {model.input_shape}. Build it with a static "
            "`input_shape`, or give one to describe."
        )
    groups = {}
    for network, shapes in networks:
        for layer, calls in _calls(network, shapes):
            if not isinstance(layer, layers.Dropout):
                groups.setdefault(layer.name.split("_")[0], []).append((layer, calls))
    parts = tuple(_part(name, group) for name, group in groups.items())
    return Description(model.name, shape, parts)


def _of_detector(model, image_shape):
    """The input of one image and the networks, with the shapes of what they take."""
    if image_shape is None:
        image_shape = model.min_size, min(model.max_size, model.min_size * 4 // 3)
    height, width = (-(-side // MULTIPLE) * MULTIPLE for side in image_shape)
    return (height, width, 3), model.networks((height, width))


def _calls(network, shapes):
    """Every layer, and the (input shape, output shape) of each call of the network."""
    found = [{id(x): shape for x in network.inputs} for shape in shapes]
    for layer in network.layers:
        if not isinstance(layer, layers.InputLayer):
            yield layer, [_call(layer, known) for known in found]


def _call(layer, known):
    """One of them; adds the output to the `known` shapes of tensors."""
    shape = keras.tree.map_structure(lambda x: known[id(x)], layer.input)
    known[id(layer.output)] = tuple(layer.compute_output_shape(shape))
    return shape, known[id(layer.output)]


def _part(name, group):
    *_, (_, [(_, output_shape), *_]) = group
    macs = (count_macs(layer, *call) for layer, calls in group for call in calls)
    own = [layer for layer, _ in group]
    return Part(
        name=name,
        output_shape=output_shape[1:],
        non_local_blocks=tuple(x.name for x in own if isinstance(x, BaseNonLocal)),
        params=sum(map(_count_params, own)),
        macs=sum(macs, Macs()),
    )


def _count_params(layer):
    if isinstance(layer, FrozenBatchNorm):
        return 0
    weights = (w for w in layer.weights if not w.name.startswith("moving_"))
    return sum(math.prod(w.shape) for w in weights)


# === Table ===


def _table(description):
    """Lines of text: a title, a row for each part, and the total."""
    kinds = [field.name for field in dataclasses.fields(Macs)]
    header = ("part", "output", "params", "GMAC", *kinds, "non-local blocks after")
    rows = [
        _row(part.name, part.output_shape, part, _places(part.non_local_blocks))
        for part in description.parts
    ]
    num_blocks = len(description.non_local_blocks)
    total = _row("total", (), description, [f"{num_blocks} in all"])
    title = f"{description.name}, input {_times(description.input_shape)}"
    return [title, *_align([header, *rows, total])]


def _row(name, shape, counted, blocks):
    macs = (counted.macs.total, *dataclasses.astuple(counted.macs))
    gmacs = [f"{count / 1e9:.3f}" if count else "0" for count in macs]
    return (name, _times(shape), f"{counted.params:,}", *gmacs, ", ".join(blocks))


def _places(blocks):
    return [block.removesuffix("_nonlocal") for block in blocks]


def _times(shape):
    return " x ".join(map(str, shape))


def _align(rows):
    """Columns of equal width: text to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if 2 <= i < len(row) - 1 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
