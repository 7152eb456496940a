"""Where two architectures differ, as `Problem`s with their fixes."""

import dataclasses

from keras_nonlocal.convert.architecture import SIMPLE
from keras_nonlocal.convert.errors import Problem
from keras_nonlocal.convert.preprocessing import Pixels
from keras_nonlocal.models import CONVENTIONS, DETECTION_CONVENTIONS, STEMS

# Options of non-local blocks that no weight shows, beside the mode.
OF_CONVENTION = ("sub_sample", "pool_position", "use_scale")
COMPARED = (*OF_CONVENTION, "scope", "group_size")

_POOLS = (("padding", "pool1"), ("window", "pool1"), ("window", "pool2"))
_STRIDES = {True: "first 1x1", False: "3x3 convolution"}


def argument_problems(found, expected, names=SIMPLE):
    """A `Problem` for each argument that two architectures determine differently."""
    for name in names:
        ours, theirs = getattr(found, name), getattr(expected, name)
        if None not in (ours, theirs) and ours != theirs:
            yield argument_problem(name, ours, theirs, {name: theirs})


def argument_problem(name, found, expected, fix=()):
    """The `Problem` of one argument."""
    return Problem("argument", {name: found}, {name: expected}, dict(fix))


def differences(model, weights):
    """Differences of a model from what its weights need, both as `Architecture`s.

    Only what neither names nor shapes of weights show; blocks that the weights do
    not have may be anything.
    """
    ours, theirs = model.conventions, weights.conventions
    if ours and theirs and {*ours}.isdisjoint(theirs):
        found, expected = (
            pools(name, model.model, model.stem) for name in (ours[0], theirs[0])
        )
        for (kind, layer), *values in zip(_POOLS, found, expected, strict=True):
            if values[0] != values[1]:
                yield Problem(kind, *values, {"convention": theirs[0]}, layer)
    for problem in argument_problems(model, weights, ("stem", "stride_in_1x1")):
        [(name, needed)] = problem.fix.items()
        words = STEMS if name == "stem" else _STRIDES
        if name != "stem" or weights.model == model.model:  # else it is inflated
            values = words[getattr(model, name)], words[needed]
            yield Problem(name, *values, problem.fix)
    for name in filter(weights.blocks.__contains__, model.blocks):
        yield from _block_differences(name, model, weights)


def detector_problems(rules, pixels, problems):
    """The problems of a detector, whose convention mends what it determines.

    Args:
        rules: `DetectionConvention` of the detector.
        pixels: `Pixels` that the weights were trained with; None: any.
        problems: Those of its backbone.
    """
    for problem in problems:
        if problem.kind == "stride_in_1x1":
            stride = not rules.stride_in_1x1
            fix = _conventions(lambda other, s=stride: other.stride_in_1x1 == s)
            problem = dataclasses.replace(problem, fix=fix)
        yield problem
    own = _pixels(rules)
    if pixels and not pixels.is_close(own):
        fix = _conventions(lambda other: pixels.is_close(_pixels(other)))
        yield Problem("image pixels", own.describe(), pixels.describe(), fix)


def _conventions(fits):
    return {"convention": [x for x, y in DETECTION_CONVENTIONS.items() if fits(y)]}


def _pixels(rules):
    return Pixels(rules.color, rules.mean, rules.std)


def pools(convention, model, stem):
    """Padding and window of a convention's pool1, and window of its pool2."""
    rules = CONVENTIONS[convention]
    frames = rules.pool1_frames if STEMS[stem] > 1 else 1
    return int(model in rules.padded_pool1), frames, rules.pool2_frames


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
        if found == expected or not _matters(option, ours):
            continue
        fix = {option: expected}
        if name and usual.get(option, ()) == expected:
            fix = {"convention": weights.conventions[0]}
        elif name:
            stage = name.split("_")[0]
            fix = {"non_local_options": {stage: fix} if option == "group_size" else fix}
        yield Problem("block option", found, expected, fix, layer, option)


def _usual_options(model, weights, block):
    """Options by the weights' convention, unless the model has that convention too.

    Then it has other options on purpose.
    """
    built_with = [
        name
        for name in model.conventions
        if all(
            getattr(CONVENTIONS[name], option) == block[option]
            for option in OF_CONVENTION
            if _matters(option, block)
        )
    ]
    possible = built_with or model.conventions
    if len(weights.conventions) != 1 or weights.conventions[0] in possible:
        return {}
    return CONVENTIONS[weights.conventions[0]].non_local_options


def _matters(option, block):
    if option == "pool_position":
        return block["sub_sample"]
    return option != "use_scale" or "embedded_gaussian" in block["modes"]
