"""The places of non-local blocks, as the residual blocks that they follow, and their
arguments in each stage."""

from collections.abc import Mapping

from keras_nonlocal.validation import invalid_argument

STAGES = ("res2", "res3", "res4", "res5")

# The blocks in each stage for a number of blocks (paper, Sec. 4.1 and Table 2c).
_PER_STAGE = {1: {"res4": 1}, 5: {"res3": 2, "res4": 3}, 10: {"res3": 4, "res4": 6}}


def place(non_local, num_blocks):
    """Converts the argument `non_local` of a model to indices for every stage.

    A block with index i follows the ReLU of residual block i (0-based).

    - 1: right before the last residual block of res4.
    - 5: 2 in res3 and 3 in res4, after every (n // k)-th residual block: {1, 3}
      and {1, 3, 5} in ResNet-50, {1, 3} and {6, 13, 20} in ResNet-101.
    - 10: 4 in res3 and 6 in res4, evenly back from the last residual block: all
      of both stages in ResNet-50, {2, 6, 10, 14, 18, 22} of res4 in ResNet-101
      (after GluonCV: the authors' formula gives 9 blocks there).

    Args:
        non_local: None or 0 (no blocks), 1, 5, 10, or a mapping from stage name
            (`"res2"` to `"res5"`) to indices.
        num_blocks: Mapping from stage name to its number of residual blocks.

    Returns:
        Dict from every stage name to a sorted tuple of indices.

    Raises:
        ValueError: Anything else; indices that are out of range or repeated; a mapping
            without any block; a network too shallow for the number of blocks.

    Example:
    >>> place(5, {"res2": 3, "res3": 4, "res4": 23, "res5": 3})["res4"]
    (6, 13, 20)
    """
    if isinstance(non_local, Mapping):
        placed = _place_explicitly(non_local, num_blocks)
    else:
        placed = _place_by_number(non_local, num_blocks)
    return {stage: placed.get(stage, ()) for stage in STAGES}


def _place_by_number(number, num_blocks):
    if number is None:
        return {}
    if isinstance(number, bool) or number not in (0, *_PER_STAGE):
        raise _invalid(number, "None, 1, 5, 10 or a dict such as {'res3': [1, 3]}")
    placed = {}
    for stage, count in _PER_STAGE.get(number, {}).items():
        placed[stage] = _RULES[number](num_blocks[stage], count)
        if len(placed[stage]) < count or placed[stage][0] < 0:
            raise _too_shallow(number, stage, num_blocks[stage])
    return placed


def _before_last(num_blocks, count):
    return (num_blocks - 1 - count,)


def _every(num_blocks, count):
    step = num_blocks // count
    return tuple(range(step - 1, count * step, step)) if step else ()


def _back_from_last(num_blocks, count):
    step = (num_blocks - 1) // (count - 1)
    first = num_blocks - 1 - step * (count - 1)
    return tuple(range(first, num_blocks, step)) if step else ()


_RULES = {1: _before_last, 5: _every, 10: _back_from_last}


def _place_explicitly(non_local, num_blocks):
    for stage in non_local:
        if stage not in STAGES:
            raise _invalid(non_local, f"stages {STAGES}, not {stage!r}")
    if not any(non_local.values()):
        raise _invalid(non_local, "at least one block: this inserts none")
    return {
        stage: _check_indices(non_local, stage, num_blocks[stage])
        for stage in non_local
    }


def _check_indices(non_local, stage, num_blocks):
    indices = non_local[stage] or ()
    if isinstance(indices, (str, bytes, int, float, Mapping)):
        raise _invalid(non_local, f"a list of block indices for {stage!r}")
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int):
            raise _invalid(non_local, f"whole block indices in {stage!r}")
        if not 0 <= index < num_blocks:
            indices = f"indices 0 to {num_blocks - 1} in {stage!r}, which has "
            indices += f"{num_blocks} residual blocks, not {index}"
            raise _invalid(non_local, indices)
    if len(set(indices)) < len(indices):
        raise _invalid(non_local, f"each block of {stage!r} once")
    return tuple(sorted(indices))


def _invalid(non_local, expected):
    return ValueError(
        f"Invalid value for argument `non_local`. Expected {expected}. Received: "
        f"non_local={non_local!r}."
    )


def _too_shallow(number, stage, num_blocks):
    wanted = " and ".join(f"{n} in {s}" for s, n in _PER_STAGE[number].items())
    return ValueError(
        f"`non_local={number}` places {wanted}, which {stage} with its {num_blocks} "
        "residual blocks is too short for. Use a deeper network, or list the blocks, "
        f"such as non_local={{'{stage}': [0]}}."
    )


def stage_options(block, defaults, overrides, owner):
    """Arguments of non-local blocks by stage.

    Args:
        block: Class of the blocks, which checks them: in stages without blocks, too.
        defaults: Dict of arguments.
        overrides: None, or a dict of arguments above the defaults. Under a stage's name
            it may hold such a dict for that stage alone.
        owner: The function or class whose `non_local_options` they are.
    """
    overrides = {} if overrides is None else overrides
    expected = (
        "a dict without 'name' and 'data_format', which the model sets; under a "
        "stage's name a dict for that stage"
    )
    error = invalid_argument("non_local_options", overrides, expected, owner=owner)
    if not isinstance(overrides, Mapping):
        raise error
    shared = {key: x for key, x in overrides.items() if key not in STAGES}
    options = {}
    for stage in STAGES:
        own = overrides.get(stage, {})
        if not isinstance(own, Mapping) or {"name", "data_format"} & {*shared, *own}:
            raise error
        options[stage] = {**defaults, **shared, **own}
        block(**options[stage])
    return options
