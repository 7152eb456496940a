"""`Source`: a project whose weights can be loaded."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping

from keras_nonlocal.convert.arrays import torch_to_keras
from keras_nonlocal.convert.errors import Problem
from keras_nonlocal.convert.preprocessing import Pixels
from keras_nonlocal.convert.sources.names import USUAL, translator

# Where training programs keep the weights within what they save.
WRAPPERS = ("blobs", "model_state", "state_dict", "model_state_dict", "model")
MAX_WRAPPERS = 4  # a file may hold a dict that holds itself


def unwrap(content):
    """The dict of weights by name within what a file holds.

    Looks into `{"state_dict": {...}}` and its like, and takes off the `module.`
    that data-parallel training puts before every name.
    """
    for _ in range(MAX_WRAPPERS):
        if not isinstance(content, Mapping):
            return {}
        inner = [content[key] for key in WRAPPERS if key in content]
        inner = [value for value in inner if isinstance(value, Mapping)]
        if not inner:
            break
        content = inner[0]
    if content and all(str(name).startswith("module.") for name in content):
        return {str(name)[len("module.") :]: x for name, x in content.items()}
    return dict(content)


def keep(weights, *_):
    """The weights as they are."""
    return weights


def nothing(*_):
    """No defaults, no options."""
    return {}


@dataclasses.dataclass(frozen=True)
class Source:
    """One project's names and layout; PyTorch's by default.

    Attributes:
        name: For `load_weights(source=...)`.
        names: Templates of its names and of ours: see `translator`. Two names may
            give one of our paths (aliases): their arrays must then be equal.
        fields: Of these templates, beside the usual ones.
        ignored: Regular expressions, each of a whole name: weights that inference
            has no use for.
        others: Regular expressions of names that only other networks have, to what
            these are; of a ResNet's variants, to how it differs.
        convention: Which `convention` of C2D and I3D its weights need; None: any.
        epsilon: Of its batch normalisation; None: that of the model.
        unwrap: What a file holds to weights by name; `{}` for what is not its own.
        normalize: Weights by name to the same, under the names of `names`: to
            rename, to merge, or to refuse by a `CheckpointError` that says why.
        layout: `(array, shape)` to the array in our layout, for one of our weights
            of that shape.
        defaults: The file's weights as `{our path: array}` to `{ending of our path:
            number}`: what stands, exactly, for weights that the source leaves out.
        block_options: The weights by name, and all that the file holds, to the
            options of non-local blocks that they determine, as in `Architecture`,
            and under a stage's name those of that stage alone.
        is_image_network: Whether the weights by name are those of an image
            classifier: no convention is needed, and another number of classes
            leaves our classifier as it is.
        stride_in_1x1: As in C2D and I3D; None: any.
        pixels: `Pixels` that its networks take; None: those of the convention.
        remark: `Problem` that is a note in every report.
    """

    name: str
    names: Mapping[str, str]
    fields: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = (r".*\bnum_batches_tracked",)
    others: Mapping[str, str] = dataclasses.field(default_factory=dict)
    convention: str | None = None
    epsilon: float | None = 1e-5
    unwrap: Callable = unwrap
    normalize: Callable = keep
    layout: Callable = torch_to_keras
    defaults: Callable = nothing
    block_options: Callable = nothing
    is_image_network: Callable = nothing
    stride_in_1x1: bool | None = False
    pixels: Pixels | None = None
    remark: Problem | None = None

    def __post_init__(self):
        if self.pixels is None and self.convention:
            pixels = Pixels.of_convention(self.convention)
            object.__setattr__(self, "pixels", pixels)

    @functools.cached_property
    def translate(self):
        """Our path for one of the source's names, or None."""
        return translator(self.names, {**USUAL, **self.fields})

    def ignores(self, name):
        """Whether a name is left out on purpose."""
        return any(re.fullmatch(pattern, name) for pattern in self.ignored)
