"""Shapes to measure at, and tensors of these shapes."""

import math
from typing import NamedTuple

import numpy as np


class OpShape(NamedTuple):
    """`queries` N, `keys` M, `channels` d of theta, phi and g."""

    queries: int
    keys: int
    channels: int

    def __str__(self):
        return f"N = {self.queries:,}, M = {self.keys:,}, d = {self.channels}"


# 8x8 and 32x2 clips of 224x224 reach res3 and res4 with the same maps, 4x28x28 and
# 4x14x14 (python -m keras_nonlocal.describe i3d --stem 32x2); clip32 is a 32x28x28
# map. Sub-sampled keys first, all positions as keys ("-full") second.
NAMED_SHAPES = {
    "res3": OpShape(4 * 28 * 28, 4 * 14 * 14, 256),
    "res3-full": OpShape(4 * 28 * 28, 4 * 28 * 28, 256),
    "res4": OpShape(4 * 14 * 14, 4 * 7 * 7, 512),
    "res4-full": OpShape(4 * 14 * 14, 4 * 14 * 14, 512),
    "clip32": OpShape(32 * 28 * 28, 32 * 14 * 14, 256),
    "clip32-full": OpShape(32 * 28 * 28, 32 * 28 * 28, 256),
}


def parse_shape(text):
    """`"res3"` or `"3136x784x256"` (N, M, d) to an `OpShape`."""
    if text in NAMED_SHAPES:
        return NAMED_SHAPES[text]
    try:
        shape = OpShape(*(int(size) for size in text.split("x")))
    except (TypeError, ValueError):
        shape = None
    if shape is None or min(shape) < 1:
        raise ValueError(
            f"Unknown shape {text!r}. Expected one of {', '.join(NAMED_SHAPES)}, or "
            "NxMxd such as 3136x784x256."
        )
    return shape


def operands(shape, mode):
    """theta, phi, g (and w_f in mode concatenation), and the gradient of y.

    All are multiples of 1/8, so that sums over channels are exact in any order, and
    rounding moves no pair of the concatenation across the kink of the ReLU.
    """
    rng = np.random.default_rng(0)
    tensors = [eighths(rng, size) for size in _sizes(shape, mode)]
    return tensors, eighths(rng, (1, shape.queries, shape.channels))


def eighths(rng, size):
    """Normal values, rounded to multiples of 1/8: exact in bfloat16, too."""
    normal = rng.standard_normal(size, dtype="float32")
    return np.clip(np.round(8 * normal) / 8, -4, 4)


def tensors_mib(shape, mode, dtype):
    """MiB of the operands and dy; as many as of the gradients and y."""
    numbers = shape.queries * shape.channels
    numbers += sum(math.prod(size) for size in _sizes(shape, mode))
    return numbers * {"float32": 4, "bfloat16": 2}[dtype] / 2**20


def _sizes(shape, mode):
    n, m, d = shape
    embedded = 2 * d if mode == "gaussian" else d  # theta and phi are x itself
    sizes = [(1, n, embedded), (1, m, embedded), (1, m, d)]
    return [*sizes, (2 * d, 1)] if mode == "concatenation" else sizes


def relative_error(results, expected):
    """Largest ||result - expected|| / ||expected|| of the tensors."""
    return max(
        float(np.linalg.norm(r - e) / np.linalg.norm(e))
        for r, e in zip(results, expected, strict=True)
    )
