"""`Architecture`: the arguments of a network, as far as they are determined."""

import dataclasses
from collections.abc import Mapping

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.models import CONVENTIONS

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
        changes = {x: getattr(other, x) for x in (*SIMPLE, "conventions")}
        changes = {x: value for x, value in changes.items() if value not in (None, ())}
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
            options = usual | {"mode": block["modes"][0]} | block
            options = {x: options[x] for x in usual if options[x] != usual[x]}
            if stages.setdefault(name.split("_")[0], options) != options:
                raise CheckpointError(
                    "Its non-local blocks differ within a stage: build the same "
                    "network, and load the file with load_weights."
                )
        options = [stage.items() for stage in stages.values()] or [()]
        shared = dict(x for x in options[0] if all(x in other for other in options))
        own = {
            stage: {x: y for x, y in options.items() if x not in shared}
            for stage, options in stages.items()
        }
        return shared | {stage: options for stage, options in own.items() if options}
