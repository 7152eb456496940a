"""Weights and images of the recorded detectors, drawn from seeds with NumPy alone."""

import json
import zlib

import numpy as np


def draw(name, shape, seed):
    """The weight `name`."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if len(shape) >= 2:
        factor = (2 / int(np.prod(shape[1:]))) ** 0.5
        return (rng.standard_normal(shape) * factor).astype("float32")
    if name.endswith("weight"):  # a normalisation's scale
        low, high = (0.2, 0.5) if ".bn3." in name else (0.5, 1.2)
        return rng.uniform(low, high, shape).astype("float32")
    return rng.uniform(-0.1, 0.1, shape).astype("float32")


def state(values):
    """The weights that a recorded network had, by torchvision's names."""
    arrays, seed = {}, int(values["seed"])
    for name, shape in json.loads(str(values["shapes"])).items():
        if name.endswith("num_batches_tracked"):
            continue
        array = values.get(f"state/{name}")
        array = draw(name, shape, seed) if array is None else array
        array = array * values.get(f"factor/{name}", 1)
        if name.endswith("cls_score.bias"):
            array = array + values[f"shift/{name.removesuffix('.bias')}/again.bias"]
        arrays[name] = array.astype("float32")
    return arrays


def image(height, width, seed):
    """uint8 `(H, W, 3)`: coloured boxes on a smooth ground."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    phase = rng.uniform(0, 6, 3)
    ground = 127 + 80 * np.sin(rows[..., None] / 37 + columns[..., None] / 23 + phase)
    ground = ground.astype("uint8")
    for _ in range(8):
        top, left = rng.integers(0, height - 20), rng.integers(0, width - 20)
        h, w = rng.integers(12, height // 2), rng.integers(12, width // 2)
        ground[top : top + h, left : left + w] = rng.integers(0, 256, 3)
    return ground
