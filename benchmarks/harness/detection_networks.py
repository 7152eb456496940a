"""The recorded networks of tests/parity: weights and images that both sides take."""

import pathlib
import sys

import numpy as np

PARITY = pathlib.Path(__file__).parents[2] / "tests" / "parity"
CLASSES = {"maskrcnn": 91, "keypointrcnn": 2}
NETWORKS = tuple(CLASSES)
KEYPOINTS = 17
IMAGES = 2  # in a batch of training
OBJECTS = 8  # in an image of training
# Of SGD. The rate is so small that the network, and its proposals, stay the same.
RATE, MOMENTUM, DECAY = 1e-7, 0.9, 1e-4
FROZEN = 2  # conv1 and res2, as in torchvision


def read(name):
    """Weights by torchvision's names, of a network that detects 100 objects."""
    with np.load(PARITY / f"detection_{name}.npz") as file:
        return _seeded().state(dict(file))


def inputs(network, size, task):
    """Images, uint8 `(H, W, 3)`, and for training what they show."""
    height, width = map(int, size.split("x"))
    if task == "detection":
        return [_seeded().image(height, width, 5)], None
    images = [_seeded().image(height, width, seed) for seed in range(IMAGES)]
    return images, [_objects(network, height, width, seed) for seed in range(IMAGES)]


def _objects(network, height, width, seed):
    """What an image shows: `boxes`, `labels`, and `masks` or `keypoints`."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(0.1, 0.5, (OBJECTS, 2)) * (width, height)
    corners = rng.uniform(0, 1, (OBJECTS, 2)) * ((width, height) - sides)
    boxes = np.concatenate([corners, corners + sides], axis=1).astype("float32")
    labels = rng.integers(1, CLASSES[network], OBJECTS)
    found = {"boxes": boxes, "labels": labels}
    if network == "maskrcnn":
        masks = [_ellipse(box, height, width) for box in boxes]
        return found | {"masks": np.stack(masks).astype("uint8")}
    places = rng.uniform(0.05, 0.95, (OBJECTS, KEYPOINTS, 2))
    points = corners[:, None] + places * sides[:, None]
    points = np.concatenate([points, np.full_like(points[..., :1], 2)], axis=-1)
    return found | {"keypoints": points.astype("float32")}


def _ellipse(box, height, width):
    """The pixels `(H, W)` of the ellipse in a box."""
    x1, y1, x2, y2 = box
    y, x = np.mgrid[:height, :width] + 0.5
    return ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + (
        (2 * y - y1 - y2) / (y2 - y1)
    ) ** 2 <= 1


def _seeded():
    sys.path.insert(0, str(PARITY))
    import seeded_detection  # NumPy alone: torchvision's side has no Keras

    return seeded_detection
