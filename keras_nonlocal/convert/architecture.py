"""`Architecture`: the arguments of a network, as far as they are determined."""

import dataclasses
from collections.abc import Mapping

from keras_nonlocal.convert.errors import CheckpointError, Problem
from keras_nonlocal.models import CONVENTIONS, STEMS

SIMPLE = (
    "model",
    "depth",
    "width",
    "num_classes",
    "temporal_kernel",
    "stem",
    "stride_in_1x1",
)
# The weights do not show which of the two it is.
EMBEDDED = ("embedded_gaussian", "dot_product")

# Of projects that have one stem for all networks of a model.
_STEMS = {
    ("pyslowfast", "c2d"): "8x8",
    ("pyslowfast", "i3d"): "8x8",
    ("mmaction2", "c2d"): "8x8",
    ("mmaction2", "i3d"): "32x2",
    ("gluoncv", "i3d"): "32x2",
}
_BLOCK_DEFAULTS = {
    "mode": EMBEDDED[0],
    "normalization": "batch",
    "intermediate_channels": None,
    "scope": "spacetime",
    "group_size": None,
}
COMPARED = ("sub_sample", "pool_position", "use_scale", "scope", "group_size")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A C2D or I3D, or a single non-local block; what is undetermined is None.

    Attributes:
        model: `"c2d"` or `"i3d"`; None also of networks for images.
        depth, width, num_classes, temporal_kernel, stem, stride_in_1x1: Arguments of
            C2D and I3D.
        conventions: Names of `CONVENTIONS`, each of which builds the network (they
            differ in blocks at most); empty: undetermined.
        blocks: Non-local blocks by the residual block that each follows, such as
            `"res3_1"` (a single layer: `""`), to arguments of `NonLocal3D`, of which
            `"modes"` are those that the mode is one of.
    """

    model: str | None = None
    depth: int | None = None
    width: int | None = None
    num_classes: int | None = None
    temporal_kernel: str | None = None
    stem: str | None = None
    stride_in_1x1: bool | None = None
    conventions: tuple[str, ...] = ()
    blocks: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)

    @property
    def non_local(self):
        """Where the blocks are, as C2D and I3D take it: `{"res3": [1, 3]}`."""
        placed = {}
        for stage, index in sorted(name.split("_") for name in self.blocks if name):
            placed.setdefault(stage, []).append(int(index))
        return {stage: sorted(indices) for stage, indices in placed.items()}

    @property
    def project_stem(self):
        """The stem that all networks of the convention's project have, or None."""
        name = self.conventions[0] if len(self.conventions) == 1 else None
        return _STEMS.get((name, self.model))

    def merged(self, other):
        """A copy with everything that another architecture determines."""
        changes = {x: getattr(other, x) for x in SIMPLE}
        changes = {x: value for x, value in changes.items() if value is not None}
        if other.conventions:
            changes["conventions"] = other.conventions
        blocks = {
            name: {**self.blocks.get(name, {}), **other.blocks.get(name, {})}
            for name in self.blocks or other.blocks
        }
        return dataclasses.replace(self, **changes, blocks=blocks)

    def arguments(self):
        """`"model"` and the arguments of C2D or I3D, of a complete architecture."""
        arguments = {name: getattr(self, name) for name in SIMPLE}
        if self.model == "c2d":
            del arguments["temporal_kernel"]
        return arguments | {
            "convention": self.conventions[0],
            "non_local": self.non_local or None,
            "non_local_options": self._block_options(),
        }

    def _block_options(self):
        """The options that differ from the convention, by stage where stages differ."""
        usual = _BLOCK_DEFAULTS | CONVENTIONS[self.conventions[0]].non_local_options
        stages = {}
        for name, block in self.blocks.items():
            options = {"mode": block["modes"][0]} | block
            options = {x: options.get(x, y) for x, y in usual.items()}
            options = {x: y for x, y in options.items() if y != usual[x]}
            if stages.setdefault(name.split("_")[0], options) != options:
                raise CheckpointError(
                    "Its non-local blocks differ within a stage: build the same "
                    "network, and load the file with load_weights."
                )
        first, *others = stages.values() or [{}]
        shared = {
            x: y for x, y in first.items() if all(o.get(x, ...) == y for o in others)
        }
        own = {
            stage: {x: y for x, y in options.items() if x not in shared}
            for stage, options in stages.items()
        }
        return shared | {stage: options for stage, options in own.items() if options}


def argument_problems(found, expected, names=SIMPLE):
    """A `Problem` for each argument that two architectures determine differently.

    Example:
    >>> [problem] = argument_problems(Architecture(depth=50), Architecture(depth=101))
    >>> print(problem, problem.fix)
    depth=50, but the weights need depth=101 {'depth': 101}
    """
    for name in names:
        ours, theirs = getattr(found, name), getattr(expected, name)
        if None not in (ours, theirs) and ours != theirs:
            yield argument_problem(name, ours, theirs)


def argument_problem(name, found, expected, fix=None):
    """The `Problem` of one argument; its fix is the expected value."""
    fix = {name: expected} if fix is None else fix
    return Problem("argument", {name: found}, {name: expected}, fix)


def differences(model, weights):
    """Differences of a built network from what its weights need, as `Problem`s.

    Only what neither names nor shapes of weights show; blocks that the weights do
    not have may be anything.

    Args:
        model: `Architecture` of the built network.
        weights: `Architecture` of the weights.
    """
    ours, theirs = model.conventions, weights.conventions
    if ours and theirs and {*ours}.isdisjoint(theirs):
        yield from _pool_differences(model, theirs[0])
    same_model = weights.model == model.model  # not one inflated from the other
    if same_model and weights.stem not in (None, model.stem):
        found, expected = STEMS[model.stem], STEMS[weights.stem]
        yield Problem("stem", found, expected, {"stem": weights.stem})
    strides = (model.stride_in_1x1, weights.stride_in_1x1)
    if None not in strides and strides[0] != strides[1]:
        places = {True: "first 1x1", False: "3x3 convolution"}
        fix = {"stride_in_1x1": strides[1]}
        yield Problem("stride", places[strides[0]], places[strides[1]], fix)
    for name in filter(weights.blocks.__contains__, model.blocks):
        yield from _block_differences(name, model, weights)


def pools(convention, model, stem):
    """Padding and window of a convention's pool1, and window of its pool2."""
    rules = CONVENTIONS[convention]
    frames = rules.pool1_frames if STEMS[stem] > 1 else 1
    return int(model in rules.padded_pool1), frames, rules.pool2_frames


def _pool_differences(model, convention):
    details = (("padding", "pool1"), ("window", "pool1"), ("window", "pool2"))
    ours, theirs = (
        pools(name, model.model, model.stem)
        for name in (model.conventions[0], convention)
    )
    for (kind, layer), found, expected in zip(details, ours, theirs, strict=True):
        if found != expected:
            fix = {"convention": convention}
            yield Problem(kind, found, expected, fix, layer)


def _block_differences(name, model, weights):
    """Of one block, with the convention as the fix where it explains them."""
    ours, theirs = model.blocks[name], weights.blocks[name]
    layer = f"{name}_nonlocal" if name else "the layer"
    if {*ours["modes"]}.isdisjoint(theirs["modes"]):
        fix = {"non_local_options": {"mode": theirs["modes"][0]}}
        expected = " or ".join(theirs["modes"])
        yield Problem("block option", ours["modes"][0], expected, fix, layer, "mode")
    usual = _usual_options(model, weights, ours)
    for option in COMPARED:
        found, expected = ours.get(option), theirs.get(option, ours.get(option))
        if found != expected and _matters(option, ours):
            fix = {"non_local_options": {option: expected}}
            if option == "group_size" and name:
                fix = {"non_local_options": {name.split("_")[0]: {option: expected}}}
            if usual.get(option, ()) == expected:
                fix = {"convention": weights.conventions[0]}
            if not name:
                fix = {option: expected}
            yield Problem("block option", found, expected, fix, layer, option)


def _usual_options(model, weights, block):
    """Options that follow from the weights' convention if the model has another.

    None if the model may have that convention, with other options on purpose.
    """
    built_with = [
        name
        for name in model.conventions
        if all(
            getattr(CONVENTIONS[name], option) == block[option]
            for option in COMPARED[:3]
            if _matters(option, block)
        )
    ]
    if len(weights.conventions) != 1 or weights.conventions[0] in built_with:
        return {}
    if not built_with and weights.conventions[0] in model.conventions:
        return {}
    return CONVENTIONS[weights.conventions[0]].non_local_options


def _matters(option, block):
    if option == "pool_position":
        return block["sub_sample"]
    return option != "use_scale" or "embedded_gaussian" in block["modes"]
