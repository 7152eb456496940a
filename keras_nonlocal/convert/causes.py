"""The likely cause of weights that do not fit, and what to do about it."""

import re
from collections import Counter

import numpy as np

from keras_nonlocal.models.placement import STAGES
from keras_nonlocal.models.resnet import DEPTHS


def cause_of(path, shape, ours):
    """Why one weight does not fit, by the two shapes (both in our layout).

    Example:
    >>> cause_of("pred/bias", (400,), (101,))
    '400 classes, not 101: skip_head=True leaves the classifier as it is'
    """
    if len(shape) != len(ours):
        return "another kind of layer"
    if path.startswith("pred/") and shape[-1] != ours[-1]:
        return (
            f"{shape[-1]} classes, not {ours[-1]}: skip_head=True leaves the "
            "classifier as it is"
        )
    if len(ours) == 5 and shape[3:] == ours[3:]:
        return _cause_of_kernel(shape[:3], ours[:3])
    return f"other channels, {shape[-2:]} not {ours[-2:]}: see `width`"


def _cause_of_kernel(extents, ours):
    if extents[1:] != ours[1:]:
        return "another kind of convolution"
    if extents[0] == 1:
        return f"1 tap in time, not {ours[0]}: weights of a C2D, or of another I3D"
    if ours[0] == 1:
        return f"{extents[0]} taps in time, not 1: weights of an I3D, or of another"
    return f"{extents[0]} taps in time, not {ours[0]}"


def cause_of_values(array, stored, dtype, epsilon=None):
    """Why finite numbers are none that our weight can compute with, or None.

    Args:
        array: The numbers.
        stored: The same as the weight holds them.
        dtype: Of the weight.
        epsilon: Of the batch normalisation whose variance they are, else None.

    Example:
    >>> array = np.array([1.0, -3.0])
    >>> cause_of_values(array, array, "float32", epsilon=1e-5)
    'a variance of -3, which has no square root: the file is damaged'
    """
    if not np.isfinite(stored).all():
        return (
            f"numbers up to {np.abs(array).max():.3g}, too large for {dtype}: build "
            "the model with weights of float32"
        )
    if epsilon is not None and (stored + epsilon <= 0).any():
        return (
            f"a variance of {array.min():.3g}, which has no square root: the file is "
            "damaged"
        )
    return None


def causes_of(ours, theirs):
    """What the differences between two sets of paths add up to, a line each.

    Args:
        ours: Paths of the model's weights.
        theirs: Our paths of the file's weights.
    """
    return tuple(
        line
        for judge in (_depth, _placement, _mode, _head)
        for line in judge(set(ours), set(theirs))
    )


def residual_blocks(paths):
    """Numbers of residual blocks in res2 to res5.

    Example:
    >>> residual_blocks({"res2_0_branch2a/kernel", "res2_1_branch2a/kernel"})
    (2, 0, 0, 0)
    """
    found = {match[1]: match for match in map(_BLOCK.match, paths) if match}
    counts = Counter(match[2] for match in found.values())
    return tuple(counts[stage] for stage in STAGES)


def non_local_blocks(paths):
    """Where non-local blocks are: `{"res3": [1, 3]}`."""
    placed = {}
    for stage, index in {m.groups() for m in map(_NON_LOCAL.match, paths) if m}:
        placed.setdefault(stage, []).append(int(index))
    return {stage: sorted(placed[stage]) for stage in sorted(placed)}


_BLOCK = re.compile(r"((res[2-5])_\d+)_branch2a/")
_NON_LOCAL = re.compile(r"(res[2-5])_(\d+)_nonlocal/")


def _depth(ours, theirs):
    their_blocks, our_blocks = residual_blocks(theirs), residual_blocks(ours)
    if their_blocks == our_blocks or not any(our_blocks):
        return
    depths = {blocks: depth for depth, blocks in DEPTHS.items()}
    advice = ""
    if their_blocks in depths:
        advice = f": build the model with depth={depths[their_blocks]}"
    yield (
        f"the file has {their_blocks} residual blocks in res2 to res5, the model "
        f"{our_blocks}{advice}"
    )


def _placement(ours, theirs):
    their_blocks, our_blocks = non_local_blocks(theirs), non_local_blocks(ours)
    if their_blocks and their_blocks != our_blocks:
        yield (
            f"the file has non-local blocks after {their_blocks}, the model after "
            f"{our_blocks or 'none'}: build the model with non_local={their_blocks}"
        )


def _mode(ours, theirs):
    their_mode, our_mode = _mode_of(theirs), _mode_of(ours)
    if their_mode and our_mode and their_mode != our_mode:
        yield (
            f"the file's non-local blocks are {their_mode}, the model's {our_mode}: "
            "see non_local_options={'mode': ...}"
        )


def _mode_of(paths):
    parts = {path.split("/")[1] for path in paths if _NON_LOCAL.match(path)}
    if "concat_projection" in parts:
        return "concatenation"
    if "theta" in parts:
        return "embedded_gaussian or dot_product"
    return "gaussian" if parts else None


def _head(ours, theirs):
    if "pred/kernel" in ours - theirs:
        yield "the file has no classifier: skip_head=True leaves the model's as it is"
