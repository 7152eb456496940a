"""Where two architectures differ, as `Problem`s with their fixes."""

from keras_nonlocal.convert.architecture import SIMPLE
from keras_nonlocal.convert.errors import Problem
from keras_nonlocal.models import CONVENTIONS, STEMS

# Options of non-local blocks that no weight shows, beside the mode.
COMPARED = ("sub_sample", "pool_position", "use_scale", "scope", "group_size")


def argument_problems(found, expected, names=SIMPLE):
    """A `Problem` for each argument that two architectures determine differently.

    Example:
    >>> from keras_nonlocal.convert.architecture import Architecture
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
