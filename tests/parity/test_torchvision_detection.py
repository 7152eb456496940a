"""Detectors with torchvision's weights detect what torchvision detects.

See `detectors`. Labels, boxes (0.05 pixels), scores, masks, keypoints and proposals of
every image are compared.
"""

import math

import keras
import numpy as np
import pytest

from keras_nonlocal.convert import load_weights
from tests.backends import to_numpy
from tests.parity import comparing, detectors

if keras.config.backend() != "tensorflow":
    pytest.skip("detection runs on TensorFlow", allow_module_level=True)

import tensorflow as tf

PIXELS = 0.05
SCORES = 1e-4
# From the images on, the scores of this network move by 2e-4: its features are within
# 4e-5 of float64's, as torchvision's own are, and its boxes amplify them. The order of
# operations in its many normalisations is torchvision's (x * scale + offset, nothing is
# folded): what differs is the order of sums within convolutions. From recorded
# proposals on, scores agree within `SCORES`, too.
MOVING = {"maskrcnn_v2": 5e-4}
PARAMETERS = {
    "maskrcnn": 44_401_393,
    "maskrcnn_v2": 46_359_409,
    "keypointrcnn": 59_137_258,
}
NAMES = comparing.with_slow(detectors.BUILDERS, slow=("maskrcnn_v2", "keypointrcnn"))


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return detectors.build(name)


@pytest.fixture
def eagerly():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def assert_same_detections(found, recorded, i, tolerance=SCORES):
    """Every detection, and those of scores closer than the tolerance in any order."""
    expected = {key: recorded.values[f"{key}/{i}"] for key in ("boxes", "scores")}
    labels = recorded.values[f"labels/{i}"]
    assert len(found["scores"]) == len(labels)
    distances = np.abs(found["boxes"][None] - expected["boxes"][:, None]).max(axis=-1)
    distances[found["labels"][None] != labels[:, None]] = np.inf
    same = distances.argmin(axis=1)
    assert sorted(same) == list(range(len(labels)))
    assert distances.min(axis=1).max() < PIXELS
    np.testing.assert_allclose(found["scores"], expected["scores"], 0, tolerance)
    np.testing.assert_allclose(found["scores"][same], expected["scores"], 0, tolerance)
    if "masks" in found:
        assert (found["masks"][same] != recorded.masks(i)).mean() <= 1e-4
    else:
        points = recorded.values[f"keypoints/{i}"]
        np.testing.assert_allclose(found["keypoints"][same], points, 0, PIXELS)


def test_parameters(model, name):
    """Without the statistics of batch normalisation, which v1 has frozen."""
    sizes = [math.prod(weight.shape) for weight in model.trainable_weights]
    assert sum(sizes) == PARAMETERS[name]


def test_proposals(model, name):
    recorded = detectors.read(name)
    images, sizes = model.batch([model.preprocess(x) for x in recorded.images])
    features = model.extract_features(images)
    boxes, valid = model.propose(*model.predict_rpn(features), sizes, images.shape[1:3])
    for i, found in enumerate(to_numpy(boxes)):
        expected = recorded.values[f"proposals/{i}"]
        assert to_numpy(valid)[i] == len(expected) == 1000
        distances = np.abs(found[:, None] - expected).max(axis=-1)
        assert distances.min(axis=0).max() < PIXELS
        assert distances.min(axis=1).max() < PIXELS


@pytest.mark.slow
def test_detections_of_recorded_proposals(model, name):
    recorded = detectors.read(name)
    images, sizes = model.batch([model.preprocess(x) for x in recorded.images])
    boxes = [recorded.values[f"proposals/{i}"] for i in range(len(images))]
    boxes, valid = np.stack(boxes), np.array([1000] * len(images))
    features = model.extract_features(images)
    outputs = model.predict_boxes(features, boxes)
    detected = model.postprocess(*outputs, boxes, valid, sizes)
    detected |= model.describe_boxes(features, detected["boxes"], detected["labels"])
    for i, image in enumerate(recorded.images):
        found = {key: to_numpy(x)[i] for key, x in detected.items()}
        found = model.to_image(found, sizes[i], image.shape[:2])
        assert_same_detections(found, recorded, i)


def test_detections(model, name, eagerly):
    recorded = detectors.read(name)
    results = model.detect(recorded.images, batch_size=2)
    for i, found in enumerate(results):
        assert_same_detections(found, recorded, i, MOVING.get(name, SCORES))


@pytest.mark.slow
def test_detections_when_compiled(model, name):
    test_detections(model, name, None)


@pytest.mark.slow
def test_new_blocks_change_no_bit(model, name, eagerly):
    recorded = detectors.read(name)
    options, in_head = {"non_local": 1}, ()
    if name == "keypointrcnn":
        options["head_non_local"] = True
        in_head = [f"keypoint_conv{i}_nonlocal" for i in (2, 4, 6, 8)]
    with_blocks = detectors.build(name, **options)
    blocks = load_weights(with_blocks, recorded.state).new_blocks
    assert blocks == ("res4_4_nonlocal", *in_head)
    pairs = (x.detect(recorded.images) for x in (model, with_blocks))
    for before, after in zip(*pairs, strict=True):
        for key, array in before.items():
            np.testing.assert_array_equal(array, after[key], err_msg=key)
