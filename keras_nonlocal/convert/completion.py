"""Completes an architecture: from the weights, the request, and defaults."""

import dataclasses

from keras_nonlocal.convert.architecture import (
    EMBEDDED,
    SIMPLE,
    Architecture,
)
from keras_nonlocal.convert.differences import argument_problem, argument_problems
from keras_nonlocal.convert.errors import CONVERTING, CheckpointError, Problem
from keras_nonlocal.models import (
    ARCHITECTURES,
    CONVENTIONS,
    DEPTHS,
    STAGES,
    STEMS,
    TEMPORAL_KERNELS,
    place,
)
from keras_nonlocal.ops import MODES
from keras_nonlocal.validation import check_choice, check_positive_int

_CHOICES = {
    "model": ARCHITECTURES,
    "depth": DEPTHS,
    "stem": STEMS,
    "temporal_kernel": TEMPORAL_KERNELS,
    "stride_in_1x1": (True, False),
    "convention": CONVENTIONS,
    "mode": MODES,
}


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments of `convert_file` for the network; None: not requested.

    Raises:
        ValueError: An argument outside its choices.
    """

    model: str | None = None
    depth: int | None = None
    width: int | None = None
    num_classes: int | None = None
    temporal_kernel: str | None = None
    stem: str | None = None
    stride_in_1x1: bool | None = None
    convention: str | None = None
    mode: str | None = None
    non_local: object = None

    def __post_init__(self):
        for name, value in vars(self).items():
            if value is not None and name in _CHOICES:
                check_choice(name, value, _CHOICES[name], owner="convert_file")
            elif value is not None and name in ("width", "num_classes"):
                check_positive_int(name, value, owner="convert_file")


def complete(weights, requested, skip_classifier=False):
    """Completes the architecture that weights determine.

    What is requested overrides nothing that the weights determine: it confirms it,
    or is an error.

    Args:
        weights: `Architecture` of a whole network.
        requested: `Request`.
        skip_classifier: The classifier will not be loaded.

    Returns:
        `(architecture, notes)`: a complete `Architecture`, and `Problem`s for what
        was assumed.

    Raises:
        CheckpointError: What is requested contradicts the weights, or does not
            suffice.

    Example:
    >>> weights = Architecture("c2d", 50, 64, 400, stride_in_1x1=False)
    >>> architecture, notes = complete(weights, Request(depth=50, stem="8x8"))
    >>> print(*notes)
    convention='video_nonlocal_net' is assumed: the weights do not determine it
    """
    _raise([*_contradictions(weights, requested, skip_classifier)])
    simple = {name: getattr(requested, name) for name in SIMPLE}
    conventions = (requested.convention,) if requested.convention else ()
    blocks = _place_blocks(weights, requested)
    merged = weights.merged(Architecture(**simple, conventions=conventions))
    merged = dataclasses.replace(merged, blocks=blocks)
    _raise([*_undetermined(merged, requested)])
    return _with_defaults(merged, weights, requested)


def _raise(problems):
    if not problems:
        return
    message = (
        "The request contradicts the weights (leave it out, or convert another file):"
    )
    if any(problem.kind in ("image network", "classifier") for problem in problems):
        message = "The weights do not determine the whole network:"
    raise CheckpointError(message, problems, spelling=CONVERTING)


def _contradictions(weights, requested, skip_classifier):
    for problem in argument_problems(requested, weights):
        fix = {"skip_classifier": True} if "num_classes" in problem.fix else {}
        is_free = skip_classifier or weights.model is None  # of images
        if not (fix and is_free):
            yield dataclasses.replace(problem, fix=fix)
    wanted, possible = requested.convention, weights.conventions
    if wanted and possible and wanted not in possible:
        yield argument_problem("convention", wanted, " or ".join(possible), {})
    for modes in {options["modes"]: None for options in weights.blocks.values()}:
        if requested.mode and requested.mode not in modes:
            yield argument_problem("mode", requested.mode, " or ".join(modes), {})


def _place_blocks(weights, requested):
    """Blocks with the mode that was requested; new ones for weights without."""
    blocks = weights.blocks
    if requested.non_local is not None:
        num_blocks = dict(zip(STAGES, DEPTHS[weights.depth], strict=True))
        placed = place(requested.non_local, num_blocks)
        names = [f"{stage}_{i}" for stage in placed for i in placed[stage]]
        if blocks and {*names} != {*blocks}:
            places = {stage: list(x) for stage, x in placed.items() if x}
            _raise([argument_problem("non_local", places, weights.non_local, {})])
        blocks = blocks or {name: {"modes": EMBEDDED[:1]} for name in names}
    mode = {"modes": (requested.mode,)} if requested.mode else {}
    return {name: {**options, **mode} for name, options in blocks.items()}


def _undetermined(merged, requested):
    """What neither the weights nor the request determine, and no default can."""
    if merged.model is None:
        models = [*ARCHITECTURES]
        yield Problem("image network", None, " and ".join(models), {"model": models})
    if merged.num_classes is None:
        yield Problem("classifier", fix={"num_classes": ...})
    if merged.model == "c2d" and merged.temporal_kernel:
        yield Problem("temporal kernel", {"temporal_kernel": merged.temporal_kernel})
    if requested.mode and not merged.blocks:
        yield Problem("no blocks", {"mode": requested.mode}, fix={"non_local": ...})


def _with_defaults(merged, weights, requested):
    """Fills the rest with defaults, with notes on what is assumed."""
    assumed, notes = {}, []
    if EMBEDDED in [options["modes"] for options in merged.blocks.values()]:
        assumed["mode"] = EMBEDDED[0]
    if len(merged.conventions) != 1:
        assumed["convention"] = next(iter(merged.conventions), "video_nonlocal_net")
        conventions = (assumed["convention"],)
        merged = dataclasses.replace(merged, conventions=conventions)
    if merged.stem is None:
        assumed["stem"] = merged.project_stem or "8x8"
        merged = dataclasses.replace(merged, stem=assumed["stem"])
    if merged.model == "i3d" and not merged.temporal_kernel:
        merged = dataclasses.replace(merged, temporal_kernel="3x1x1")
    notes = [Problem("assumed", {name: value}) for name, value in assumed.items()]
    if merged.blocks and not weights.blocks:
        notes.append(Problem("new blocks", f"{merged.non_local}"))
    stride = bool(merged.stride_in_1x1)
    return dataclasses.replace(merged, stride_in_1x1=stride), tuple(notes)
