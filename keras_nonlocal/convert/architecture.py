"""Which network a file's weights are of: read from their names and sizes.

Sizes and not shapes: they are the same in every project's layout.
"""

import re

import numpy as np

from keras_nonlocal.convert.causes import non_local_blocks, residual_blocks
from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.found import find_arrays
from keras_nonlocal.models.placement import STAGES
from keras_nonlocal.models.resnet import DEPTHS, EXPANSION

_BLOCK = re.compile(r"(res\d)_\d+_nonlocal/(.+)")
_CONV1 = 7 * 7 * 3  # numbers in conv1's kernel for each channel and tap in time


def infer(source, state, demands):
    """What a file tells of its network.

    The stem leaves no trace in the weights, nor does the choice between the
    embedded Gaussian and the dot product: they are left out unless a config beside
    the weights tells.

    Args:
        source: `Source`.
        state: Dict of arrays by the source's names, prepared.
        demands: What the source asks of non-local blocks.

    Returns:
        Dict of arguments of C2D and I3D, without those that the file does not tell;
        `"model"` is `"c2d"` or `"i3d"`, and left out of image networks.

    Raises:
        CheckpointError: Not the weights of a C2D, an I3D or a ResNet.
    """
    arrays = find_arrays(source, state).arrays
    sizes = {path: int(np.size(array)) for path, array in arrays.items()}
    width = _width(sizes)
    facts = {
        "depth": _depth(sizes),
        "width": width,
        "num_classes": _num_classes(sizes, width),
        "non_local": non_local_blocks(sizes),
        "convention": source.convention,
    }
    if source.is_image_network(state):
        facts["convention"] = None  # they fit all of them
    else:
        facts |= _temporal(sizes, width)
    if facts["non_local"]:
        facts["non_local_options"] = _options(sizes, width) | demands
    if source.stride_in_1x1:
        facts["stride_in_1x1"] = True
    return {name: value for name, value in facts.items() if value is not None}


def _width(sizes):
    """Channels after conv1; the stages' own must follow from it."""
    width = sizes.get("conv1_bn/gamma", 0)
    if not width:
        raise CheckpointError(
            "It holds no network from its first layer on: there is no conv1 with "
            "batch normalisation. Weights of a single layer or of a part of a "
            "network load with keras_nonlocal.convert.load_weights."
        )
    for i, stage in enumerate(STAGES):
        inner = width * 2**i
        size = sizes.get(f"{stage}_0_branch2c/kernel", 0)
        if size != EXPANSION * inner**2:
            raise CheckpointError(
                f"{stage} does not follow from conv1: after {width} channels its first "
                f"1x1x1 convolution out has {EXPANSION * inner**2} weights in C2D and "
                f"I3D, and {size} in the file. It is of another network, or damaged."
            )
    return width


def _depth(sizes):
    blocks = residual_blocks(sizes)
    depths = {numbers: depth for depth, numbers in DEPTHS.items()}
    if blocks not in depths:
        raise CheckpointError(
            f"It has {blocks} residual blocks in res2 to res5, as no network of the "
            f"depths {tuple(DEPTHS)} has. It is of another network, or incomplete."
        )
    return depths[blocks]


def _num_classes(sizes, width):
    features = width * 2 ** (len(STAGES) - 1) * EXPANSION
    return sizes.get("pred/kernel", 0) // features or None


def _temporal(sizes, width):
    """C2D or I3D, and which of its convolutions reach over time."""
    taps = sizes.get("conv1/kernel", 0) / (_CONV1 * width)
    if taps == 1:
        return {"model": "c2d"}
    if taps != 5:
        raise CheckpointError(
            f"Its conv1 has {taps:.4g} times the weights of a 7x7 convolution of RGB. "
            "Expected 1 (C2D) or 5 (I3D)."
        )
    inflated = sizes.get("res2_0_branch2b/kernel", 0) > 9 * width**2
    return {"model": "i3d", "temporal_kernel": "3x3x3" if inflated else "3x1x1"}


def _options(sizes, width):
    """`non_local_options` that the names and the sizes of weights tell."""
    parts = {match[2] for match in map(_BLOCK.fullmatch, sizes) if match}
    options = {
        "normalization": "batch" if any("norm/" in part for part in parts) else None,
        "use_bias": "g/bias" in parts,
        "use_output_bias": "w_z/bias" in parts,
    }
    return options | _mode(parts) | _intermediate_channels(sizes, width)


def _mode(parts):
    """The modes that the names of weights tell."""
    if "concat_projection/kernel" in parts:
        return {"mode": "concatenation"}
    return {} if "theta/kernel" in parts else {"mode": "gaussian"}


def _intermediate_channels(sizes, width):
    """By stage, where they are not half of the stage's."""
    found = {}
    for path, size in sizes.items():
        match = _BLOCK.fullmatch(path)
        if match and match[2] == "g/kernel":
            channels = width * 2 ** STAGES.index(match[1]) * EXPANSION
            if 2 * size != channels**2:
                found[match[1]] = {"intermediate_channels": size // channels}
    return found
