"""Completes an architecture: from the weights, the request, and defaults."""

import dataclasses

from keras_nonlocal.convert.architecture import EMBEDDED, SIMPLE, Architecture
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

# The arguments of `convert_file` for the network, with their choices.
CHOICES = {
    "model": ARCHITECTURES,
    "depth": DEPTHS,
    "width": None,
    "num_classes": None,
    "temporal_kernel": TEMPORAL_KERNELS,
    "stem": STEMS,
    "stride_in_1x1": (True, False),
    "convention": CONVENTIONS,
    "mode": MODES,
    "non_local": None,
}


def check_request(arguments):
    """The network's arguments without those that are None: not requested.

    Raises a `ValueError` for one outside its choices.
    """
    requested = {x: value for x, value in arguments.items() if value is not None}
    for name, value in requested.items():
        if CHOICES[name]:
            check_choice(name, value, CHOICES[name], owner="convert_file")
        elif name != "non_local":
            check_positive_int(name, value, owner="convert_file")
    return requested


def complete(weights, requested, skip_classifier=False):
    """Completes the architecture that weights determine.

    What is requested overrides nothing that the weights determine: it confirms it,
    or is an error.

    Returns a complete `Architecture`, and `Problem`s for what was assumed. Raises a
    `CheckpointError` if the request contradicts the weights, or does not suffice.

    Example:
    >>> weights = Architecture("c2d", 50, 64, 400, stride_in_1x1=False)
    >>> architecture, notes = complete(weights, {"depth": 50, "stem": "8x8"})
    >>> print(*notes)
    convention='video_nonlocal_net' is assumed: the weights do not determine it
    """
    mode, convention = requested.get("mode"), requested.get("convention")
    wanted = Architecture(
        **{name: requested.get(name) for name in SIMPLE},
        conventions=(convention,) if convention else (),
    )
    _raise(_contradictions(weights, wanted, mode, skip_classifier))
    blocks = _place_blocks(weights, requested.get("non_local"))
    if mode:
        blocks = {x: {**options, "modes": (mode,)} for x, options in blocks.items()}
    merged = dataclasses.replace(weights.merged(wanted), blocks=blocks)
    _raise(_undetermined(merged, mode))
    return _with_defaults(merged, has_new_blocks=merged.blocks and not weights.blocks)


def _raise(problems):
    problems = tuple(problems)
    message = (
        "The request contradicts the weights (leave it out, or convert another file):"
    )
    if any(problem.kind in ("image network", "classifier") for problem in problems):
        message = "The weights do not determine the whole network:"
    if problems:
        raise CheckpointError(message, problems, spelling=CONVERTING)


def _contradictions(weights, wanted, mode, skip_classifier):
    for problem in argument_problems(wanted, weights):
        fix = {"skip_classifier": True} if "num_classes" in problem.fix else {}
        is_free = skip_classifier or weights.model is None  # of images
        if not (fix and is_free):
            yield dataclasses.replace(problem, fix=fix)
    choices = [("convention", x, weights.conventions) for x in wanted.conventions]
    modes = dict.fromkeys(options["modes"] for options in weights.blocks.values())
    choices += [("mode", mode, possible) for possible in modes if mode]
    for name, value, possible in choices:
        if possible and value not in possible:
            yield argument_problem(name, value, " or ".join(possible))


def _place_blocks(weights, non_local):
    """The blocks of the weights, or new ones for weights without."""
    if non_local is None:
        return weights.blocks
    num_blocks = dict(zip(STAGES, DEPTHS[weights.depth], strict=True))
    placed = place(non_local, num_blocks)
    names = [f"{stage}_{i}" for stage in placed for i in placed[stage]]
    if weights.blocks and {*names} != {*weights.blocks}:
        places = {stage: list(x) for stage, x in placed.items() if x}
        _raise([argument_problem("non_local", places, weights.non_local)])
    return weights.blocks or {name: {"modes": EMBEDDED[:1]} for name in names}


def _undetermined(merged, mode):
    """What neither the weights nor the request determine, and no default can."""
    if merged.model is None:
        models = [*ARCHITECTURES]
        yield Problem("image network", None, " and ".join(models), {"model": models})
    if merged.num_classes is None:
        yield Problem("classifier", fix={"num_classes": ...})
    if merged.model == "c2d" and merged.temporal_kernel:
        yield Problem("temporal kernel", {"temporal_kernel": merged.temporal_kernel})
    if mode and not merged.blocks:
        yield Problem("no blocks", {"mode": mode}, fix={"non_local": ...})


def _with_defaults(merged, has_new_blocks):
    """Fills the rest with defaults, with notes on what is assumed."""
    assumed = {}
    if EMBEDDED in [options["modes"] for options in merged.blocks.values()]:
        assumed["mode"] = EMBEDDED[0]
    convention = next(iter(merged.conventions), "video_nonlocal_net")
    if len(merged.conventions) != 1:
        assumed["convention"] = convention
    merged = dataclasses.replace(merged, conventions=(convention,))
    if merged.stem is None:
        assumed["stem"] = merged.project_stem or "8x8"
    kernel = merged.temporal_kernel or ("3x1x1" if merged.model == "i3d" else None)
    complete = dataclasses.replace(
        merged,
        stem=merged.stem or assumed["stem"],
        temporal_kernel=kernel,
        stride_in_1x1=bool(merged.stride_in_1x1),
    )
    notes = [Problem("assumed", {name: value}) for name, value in assumed.items()]
    if has_new_blocks:
        notes.append(Problem("new blocks", f"{merged.non_local}"))
    return complete, tuple(notes)
