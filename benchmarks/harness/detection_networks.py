"""The recorded networks of tests/parity: weights that both sides load."""

import pathlib
import sys

import numpy as np

PARITY = pathlib.Path(__file__).parents[2] / "tests" / "parity"
NETWORKS = ("maskrcnn", "keypointrcnn")


def read(name):
    """Weights by torchvision's names, of a network that detects 100 objects."""
    with np.load(PARITY / f"detection_{name}.npz") as file:
        return _seeded().state(dict(file))


def image(height, width):
    """uint8 `(H, W, 3)`."""
    return _seeded().image(height, width, seed=5)


def _seeded():
    sys.path.insert(0, str(PARITY))
    import seeded_detection  # NumPy alone: torchvision's side has no Keras

    return seeded_detection
