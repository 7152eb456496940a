"""torchvision's detectors as they were recorded, and ours with the same weights.

`detection_*.npz` beside this module hold what torchvision 0.28 computed, written by
`make_detection_values.py`; weights and images are drawn by name and seed.
"""

import dataclasses
import functools
import pathlib

import numpy as np

from keras_nonlocal import KeypointRCNN, MaskRCNN
from keras_nonlocal.convert import load_weights
from tests.parity import seeded_detection

# Classes, and arguments, by the names of the recorded networks.
BUILDERS = {
    "maskrcnn": (MaskRCNN, {}),
    "maskrcnn_v2": (MaskRCNN, {"convention": "torchvision_v2"}),
    "keypointrcnn": (KeypointRCNN, {}),
}


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What a network of torchvision computed.

    Attributes:
        state: Its weights by name.
        images: uint8 `(H, W, 3)` arrays, which were one batch.
        values: By name: `proposals/0` (of image 0), `boxes/0`, `labels/0`, `scores/0`,
            `masks/0` (bits) or `keypoints/0` and `keypoints_scores/0`; the losses with
            every anchor and box sampled, `loss/loss_classifier`...
        min_size: Of the short side, in pixels.
        max_size: Of the long side.
    """

    state: dict
    images: list
    values: dict
    min_size: int
    max_size: int

    def masks(self, i):
        """`(n, H, W)` bool of image i."""
        width = self.images[i].shape[1]
        bits = self.values[f"masks/{i}"]
        return np.unpackbits(bits, axis=-1, count=width).astype(bool)

    def target(self, i):
        """The objects that image i was trained with: `boxes`, `labels`, and `masks` or
        `keypoints`, in the pixels of the image."""
        prefix = f"target/{i}/"
        values = self.values.items()
        return {x.removeprefix(prefix): y for x, y in values if x.startswith(prefix)}


@functools.cache
def read(name):
    """The `Recorded` of `"maskrcnn"`, `"maskrcnn_v2"` or `"keypointrcnn"`."""
    path = pathlib.Path(__file__).with_name(f"detection_{name}.npz")
    with np.load(path) as file:
        values = dict(file)
    seed = int(values["seed"])
    sizes = values["image_sizes"].tolist()
    return Recorded(
        state=seeded_detection.state(values),
        images=[
            seeded_detection.image(*size, seed + i) for i, size in enumerate(sizes)
        ],
        values=values,
        min_size=int(values["min_size"]),
        max_size=int(values["max_size"]),
    )


def build(name, **options):
    """Our network with the recorded weights.

    Args:
        name: As in `read`.
        **options: Of `MaskRCNN` or `KeypointRCNN`.
    """
    recorded = read(name)
    builder, arguments = BUILDERS[name]
    sizes = {"min_size": recorded.min_size, "max_size": recorded.max_size}
    model = builder(**(sizes | arguments | options))
    load_weights(model, recorded.state)
    return model
