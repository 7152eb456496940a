"""Detectors with torchvision's weights detect what torchvision detects.

See `detectors`. Labels, boxes (0.05 pixels), scores, masks, keypoints and proposals of
every image are compared.
"""

import numpy as np
import pytest

from tests.backends import to_numpy
from tests.parity import comparing, detectors

PIXELS = 0.05
NAMES = comparing.with_slow(detectors.BUILDERS, slow=("maskrcnn_v2", "keypointrcnn"))


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return detectors.build(name)


@pytest.fixture(scope="module")
def batch(model, name):
    images = detectors.read(name).images
    return model.batch([model.preprocess(image) for image in images])


def test_every_proposal(model, name, batch):
    images, sizes = batch
    outputs = model.predict_rpn(model.extract_features(images))
    boxes, valid = model.propose(*outputs, sizes, images.shape[1:3])
    for i, found in enumerate(to_numpy(boxes)):
        expected = detectors.read(name).values[f"proposals/{i}"]
        assert to_numpy(valid)[i] == len(expected) == 1000
        distances = np.abs(found[:, None] - expected).max(axis=-1)
        assert distances.min(axis=0).max() < PIXELS
        assert distances.min(axis=1).max() < PIXELS


def test_every_detection(model, name):
    recorded = detectors.read(name)
    results = model.detect(recorded.images, batch_size=2)
    for i, found in enumerate(results):
        expected = {key: recorded.values[f"{key}/{i}"] for key in ("boxes", "scores")}
        np.testing.assert_array_equal(found["labels"], recorded.values[f"labels/{i}"])
        np.testing.assert_allclose(found["boxes"], expected["boxes"], 0, PIXELS)
        np.testing.assert_allclose(found["scores"], expected["scores"], 0, 1e-4)
        if "masks" in found:
            assert (found["masks"] != recorded.masks(i)).mean() <= 1e-4
        else:
            points = recorded.values[f"keypoints/{i}"]
            np.testing.assert_allclose(found["keypoints"], points, 0, PIXELS)
