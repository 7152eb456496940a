"""What a built network is made of, part by part."""

import dataclasses
import math

from keras import layers

from keras_nonlocal.layers import BaseNonLocal
from keras_nonlocal.models.complexity import Macs, count_macs


@dataclasses.dataclass(frozen=True)
class Part:
    """A stage of the network: `conv1`, `pool1`, `res2`...

    Attributes:
        name: What its layers' names start with.
        output_shape: `(T, H, W, C)` or `(C,)`.
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

    Multiply-adds are for one clip. Parameters are those that are trained: all weights
    but the moving statistics of batch normalisation.

    Attributes:
        name: The model's name.
        input_shape: `(T, H, W, C)`.
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
        """Multiply-adds for one clip, in 10^9."""
        return self.macs.total / 1e9

    @property
    def non_local_blocks(self):
        """Names of all non-local blocks, in order."""
        return sum((part.non_local_blocks for part in self.parts), ())

    def __str__(self):
        return "\n".join(_table(self))


def describe(model):
    """Describes a built C2D or I3D.

    Args:
        model: Functional `keras.Model` with a static input shape.

    Returns:
        `Description`.

    Raises:
        ValueError: The input shape is not static.

    Example:
    >>> description = describe(C2D(101, non_local=5))
    >>> f"{description.params / 1e6:.2f}M {description.gmacs:.2f}G"
    '50.68M 42.27G'
    """
    if None in model.input_shape[1:]:
        raise ValueError(
            f"describe needs sizes to count with, and the input of model "
            f"{model.name!r} is {model.input_shape}. Build it with a static "
            "`input_shape`."
        )
    groups = {}
    for layer in model.layers:
        if not isinstance(layer, (layers.InputLayer, layers.Dropout)):
            groups.setdefault(layer.name.split("_")[0], []).append(layer)
    parts = tuple(_part(name, group) for name, group in groups.items())
    return Description(model.name, tuple(model.input_shape[1:]), parts)


def _part(name, group):
    return Part(
        name=name,
        output_shape=tuple(group[-1].output.shape[1:]),
        non_local_blocks=tuple(x.name for x in group if isinstance(x, BaseNonLocal)),
        params=sum(_count_params(layer) for layer in group),
        macs=sum((count_macs(layer) for layer in group), Macs()),
    )


def _count_params(layer):
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
