"""Weights and clips drawn from seeds, so that no file needs to hold them.

The results of other projects with such weights are beside this module, one `.npz` per
project: for each network the names, shapes, seeds and scales of its weights, and its
logits. Those files are written by `make_*_values.py`.
"""

import dataclasses
import math
import pathlib
import zlib

import numpy as np

VARIANCES = ("running_var", "_riv")
GAMMAS = (".weight", "_s")
COUNTERS = ("num_batches_tracked",)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of another project, and what it computed.

    Attributes:
        state: Name to array, as the project's own state dict.
        outputs: Size of the clip, such as `"8x224x224"`, to logits; or other recorded
            arrays by name.
    """

    state: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def seed_of(name):
    return zlib.crc32(name.encode())


def draw(name, shape, seed, scale=1):
    """One weight: He uniform kernels; vectors away from their neutral values.

    `np.random.RandomState` is frozen: all versions of NumPy draw the same numbers.
    """
    if name.endswith(COUNTERS):
        return np.array(1000)
    uniform = np.random.RandomState(seed).uniform
    if len(shape) > 1:
        limit = math.sqrt(6 / math.prod(shape[1:]))
        values = uniform(-limit, limit, shape)
    elif name.endswith(VARIANCES):
        values = uniform(0.5, 1.5, shape)
    elif name.endswith(GAMMAS):  # small enough that activations do not grow
        values = uniform(0.3, 0.6, shape)
    else:
        values = uniform(-0.3, 0.3, shape)
    return (values * scale).astype("float32")


def clip(size):
    """A clip of `size`, such as `"8x224x224"`: `(1, T, H, W, 3)`, normalised.

    Blocks of 32 x 32 pixels, so that features differ between places, with noise.
    """
    frames, height, width = map(int, size.split("x"))
    uniform = np.random.RandomState(seed_of(size)).uniform
    blocks = uniform(-2, 2, (1, frames, height // 32, width // 32, 3))
    pixels = blocks.repeat(32, axis=2).repeat(32, axis=3)
    return (pixels + uniform(-0.5, 0.5, pixels.shape)).astype("float32")


def read(project, network):
    """The `Network` of `<project>.npz`; draws its weights."""
    prefix = f"{network}/"
    path = pathlib.Path(__file__).with_name(f"{project}.npz")
    with np.load(path) as file:
        keys = [key for key in file.files if key.startswith(prefix)]
        arrays = {key.removeprefix(prefix): file[key] for key in keys}
    rows = [arrays.pop(key) for key in ("names", "shapes", "seeds", "scales")]
    state = {}
    for name, shape, seed, scale in zip(*rows, strict=True):
        state[str(name)] = draw(name, [int(n) for n in shape.split()], seed, scale)
    return Network(state, arrays)
