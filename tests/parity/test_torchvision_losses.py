"""The losses of torchvision's detectors, as recorded, with every sample drawn."""

import keras
import numpy as np
import pytest

if keras.config.backend() != "tensorflow":
    pytest.skip("detection runs on TensorFlow", allow_module_level=True)

import tensorflow as tf

from tests.parity import detectors
from trainers.detection.configs import SamplingConfig
from trainers.detection.objective import compute_losses

# Nothing is random where every anchor and every box is sampled, as in the recording.
EVERYTHING = SamplingConfig(rpn_batch_size=10**7, box_batch_size=10**7)
NAMES = {
    "objectness_loss": "loss_objectness",
    "rpn_box_loss": "loss_rpn_box_reg",
    "class_loss": "loss_classifier",
    "box_loss": "loss_box_reg",
    "mask_loss": "loss_mask",
    "keypoint_loss": "loss_keypoint",
}


def nearest(length, new):
    """The cells that torch.nn.functional.interpolate takes."""
    ratio = np.float32(length) / np.float32(new)
    return (np.arange(new, dtype="float32") * ratio).astype(int)


def resized(target, size, new, canvas):
    """The objects of an image in the pixels of the resized and padded one."""
    scale = np.float32(new) / np.float32(size)
    row = {
        "boxes": target["boxes"] * scale[[1, 0, 1, 0]],
        "classes": target["labels"].astype("int32"),
        "is_crowd": np.zeros(len(target["labels"]), bool),
    }
    if "keypoints" in target:
        factors = np.float32([*scale[::-1], 1])
        return row | {"keypoints": target["keypoints"] * factors}
    rows, columns = (nearest(a, b) for a, b in zip(size, new, strict=True))
    masks = np.zeros((len(target["masks"]), *canvas), "uint8")
    masks[:, : new[0], : new[1]] = target["masks"][:, rows][:, :, columns]
    return row | {"masks": masks}


def batch_of(model, recorded):
    prepared = [model.preprocess(image) for image in recorded.images]
    images, sizes = model.batch(prepared)
    canvas = tuple(images.shape[1:3])
    objects = [
        resized(recorded.target(i), image.shape[:2], sizes[i], canvas)
        for i, image in enumerate(recorded.images)
    ]
    stacked = {key: np.stack([row[key] for row in objects]) for key in objects[0]}
    numbers = np.arange(len(objects), dtype="int64")
    return {"images": images, "sizes": sizes, "sample": numbers, **stacked}


def losses_of(model, recorded):
    batch = {k: tf.convert_to_tensor(v) for k, v in batch_of(model, recorded).items()}
    # Batch normalisation stayed as in inference while the losses were recorded.
    terms = compute_losses(model, batch, EVERYTHING, seed=0, training=False)
    return {
        name: float(tf.reduce_sum(sums) / tf.reduce_sum(counts))
        for name, (sums, counts) in terms.items()
    }


@pytest.mark.parametrize(
    "name",
    [
        "maskrcnn",
        pytest.param("maskrcnn_v2", marks=pytest.mark.slow),
        pytest.param("keypointrcnn", marks=pytest.mark.slow),
    ],
)
def test_losses_are_those_of_torchvision(name):
    recorded = detectors.read(name)
    found = losses_of(detectors.build(name), recorded)
    assert len(found) == 5
    for ours, value in found.items():
        expected = recorded.values[f"loss/{NAMES[ours]}"]
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5, err_msg=ours)
