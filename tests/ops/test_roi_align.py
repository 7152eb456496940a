"""RoIAlign against a loop over points in float64, and its gradient."""

import keras
import numpy as np
import pytest

from keras_nonlocal.ops import multilevel_roi_align, roi_align
from tests.backends import gradients, to_numpy

BINS, SCALE = 3, 0.25
IS_ALIGNED = pytest.mark.parametrize("aligned", [False, True])
needs_tensorflow = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="detection runs on TensorFlow"
)


def make_regions(seed=0, dtype="float32"):
    """Maps, and boxes within, across the edges, beyond them, and without area."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((2, 7, 9, 3)).astype(dtype)
    corners = rng.uniform(-6, 30, (12, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 20, (12, 2))], axis=1)
    boxes[0] = (5, 5, 5, 5)
    boxes[1] = (-60, -60, -50, -50)
    return features, boxes.astype("float32"), rng.integers(0, 2, 12)


def value_at(image, y, x):
    """Bilinear interpolation; 0 more than one cell outside, the edge's value before."""
    height, width, _ = image.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(image.shape[-1])
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    upper = (1 - u) * image[top, left] + u * image[top, right]
    lower = (1 - u) * image[bottom, left] + u * image[bottom, right]
    return (1 - v) * upper + v * lower


def expected_regions(features, boxes, images, aligned):
    regions = np.zeros((len(boxes), BINS, BINS, features.shape[-1]))
    for r, box in enumerate(boxes.astype("float64")):
        x1, y1, x2, y2 = box * SCALE - (0.5 if aligned else 0)
        least = 0 if aligned else 1
        height, width = max(y2 - y1, least) / BINS, max(x2 - x1, least) / BINS
        for i, j, k, m in np.ndindex(BINS, BINS, 2, 2):
            y = y1 + (i + (k + 0.5) / 2) * height
            x = x1 + (j + (m + 0.5) / 2) * width
            regions[r, i, j] += value_at(features[images[r]], y, x) / 4
    return regions


@IS_ALIGNED
def test_regions(aligned):
    features, boxes, images = make_regions()
    expected = expected_regions(features, boxes, images, aligned)
    actual = roi_align(features, boxes, images, BINS, SCALE, aligned)
    np.testing.assert_allclose(to_numpy(actual), expected, atol=5e-6)


@IS_ALIGNED
def test_gradient_in_features(aligned):
    """It is linear in the features: finite differences of any step are exact."""
    features, boxes, images = make_regions()
    cotangent = np.random.default_rng(1).standard_normal((12, BINS, BINS, 3))

    def loss(x):
        y = roi_align(x, boxes, images, BINS, SCALE, aligned)
        return keras.ops.sum(y * keras.ops.cast(cotangent, y.dtype))

    def exact(x):
        return (expected_regions(x, boxes, images, aligned) * cotangent).sum()

    [gradient] = gradients(loss, [features], "float32")
    base = exact(features.astype("float64"))
    for index in [(0, 0, 0, 0), (1, 3, 4, 2), (0, 6, 8, 1), (1, 6, 0, 0)]:
        moved = features.astype("float64")
        moved[index] += 1
        assert gradient[index] == pytest.approx(exact(moved) - base, abs=1e-4)


@IS_ALIGNED
def test_other_backends_form_and_its_gradient_in_float64(aligned):
    """TensorFlow's kernel is of float32; float64 takes the form of other backends."""
    if keras.config.backend() != "tensorflow":
        pytest.skip("keras.ops computes in float64 on TensorFlow only")
    features, boxes, images = make_regions(dtype="float64")

    def loss(x):
        y = roi_align(x, boxes, images, BINS, SCALE, aligned)
        return keras.ops.sum(keras.ops.sin(y))

    [gradient] = gradients(loss, [features], "float64")
    step = 1e-6 * np.random.default_rng(2).standard_normal(features.shape)
    change = float(loss(features + step) - loss(features - step)) / 2
    assert (gradient * step).sum() == pytest.approx(change, rel=1e-6)


def test_boxes_get_no_gradient():
    features, boxes, images = make_regions()

    def loss(x, boxes):
        return (
            keras.ops.sum(x)
            + 0 * keras.ops.sum(boxes)
            + keras.ops.sum(roi_align(features, boxes, images, BINS, SCALE))
        )

    gradient = gradients(loss, [features, boxes], "float32")[1]
    np.testing.assert_array_equal(gradient, 0)


@needs_tensorflow
def test_bfloat16_maps_are_pooled_in_float32():
    features, boxes, images = make_regions()
    half = keras.ops.cast(features, "bfloat16")
    actual = roi_align(half, boxes, images, BINS, SCALE)
    expected = roi_align(to_numpy(half).astype("float32"), boxes, images, BINS, SCALE)
    assert keras.backend.standardize_dtype(actual.dtype) == "float32"
    np.testing.assert_array_equal(to_numpy(actual), to_numpy(expected))


@needs_tensorflow
def test_levels_by_area():
    """224 x 224 and up to twice that from P4, as Eq. 1 of the FPN paper has it."""
    sides = np.array([1, 111, 112, 223, 224, 447, 448, 4000], "float32")
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)[None]
    levels = [
        np.full((1, 4096 // 2**k, 4096 // 2**k, 1), k, "float32") for k in range(2, 6)
    ]
    regions = to_numpy(multilevel_roi_align(levels, boxes, 1)).ravel()
    np.testing.assert_array_equal(regions, [2, 2, 3, 3, 4, 4, 5, 5])


@needs_tensorflow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("count", [2, 12])  # the first two are all of one level
def test_levels_in_groups_of_channels_and_their_gradient(count, dtype):
    """Against `roi_align` of each level in float64, of all channels at once."""
    rng = np.random.default_rng(3)
    boxes = make_regions()[1][:count]
    boxes = np.stack([boxes, 16 * boxes])
    sides = np.sqrt(np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)).ravel()
    shapes = (2, 7, 9, 150), (2, 4, 5, 150)
    levels = [to_numpy(keras.ops.cast(rng.standard_normal(s), dtype)) for s in shapes]
    weights = rng.standard_normal((2 * count, 2, 2, 150))

    def pooled(*levels):
        return multilevel_roi_align(levels, boxes, 2)

    def expected(*levels):
        rois = boxes.reshape(-1, 4), np.repeat([0, 1], count), 2
        parts = [roi_align(x, *rois, 0.25 / 2**k) for k, x in enumerate(levels)]
        return keras.ops.where((sides < 112)[:, None, None, None], *parts)

    def loss(function):
        def of_levels(*levels):
            y = function(*levels)
            return keras.ops.sum(y * keras.ops.cast(weights, y.dtype))

        return of_levels

    wide = [x.astype("float64") for x in levels]
    actual = pooled(*(keras.ops.convert_to_tensor(x) for x in levels))
    assert keras.backend.standardize_dtype(actual.dtype) == "float32"
    np.testing.assert_allclose(to_numpy(actual), expected(*wide), atol=1e-5)
    actual = gradients(loss(pooled), levels, dtype)
    for x, y in zip(actual, gradients(loss(expected), wide, "float64"), strict=True):
        rounding = 2**-8 if dtype == "bfloat16" else 1e-5
        np.testing.assert_allclose(x, y, rtol=rounding, atol=1e-4)
