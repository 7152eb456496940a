"""Boxes, anchors, suppression, masks and keypoints against loops in float64."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_nonlocal.ops import (
    boxes,
    decode_keypoints,
    non_max_suppression,
    paste_masks,
    pyramid_anchors,
)
from tests.backends import FLOAT, gradients, to_numpy

needs_tensorflow = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="detection runs on TensorFlow"
)


def make_boxes(count, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (count, 2))
    sides = rng.uniform(4, 40, (count, 2))
    return np.concatenate([corners, corners + sides], axis=1).astype(dtype)


# === Coding ===


def test_decoding_undoes_encoding():
    targets, references = make_boxes(50, 1), make_boxes(50, 2)
    for weights in (boxes.BOX_WEIGHTS, boxes.RPN_WEIGHTS):
        deltas = boxes.encode(targets, references, weights)
        decoded = to_numpy(boxes.decode(deltas, references, weights))
        np.testing.assert_allclose(decoded, targets, atol=2e-5)


def test_deltas():
    [deltas] = to_numpy(
        boxes.encode(np.array([[10.0, 20, 30, 60]]), np.array([[0.0, 0, 40, 20]]))
    )
    expected = [0, 10 * (40 - 10) / 20, 5 * math.log(20 / 40), 5 * math.log(40 / 20)]
    np.testing.assert_allclose(deltas, expected, rtol=1e-6)


def test_decoded_boxes_do_not_overflow():
    deltas = np.array([[0.0, 0, 1e4, 1e4]], "float32")
    [box] = to_numpy(boxes.decode(deltas, np.array([[0.0, 0, 16, 16]], "float32")))
    np.testing.assert_allclose(box, [-492, -492, 508, 508], rtol=1e-5)


@pytest.mark.parametrize("function", [boxes.encode, boxes.decode])
def test_gradients_of_coding(function):
    """Against central differences."""
    rng = np.random.default_rng(3)
    first = make_boxes(6, 4, FLOAT) if function is boxes.encode else None
    first = rng.standard_normal((6, 4)).astype(FLOAT) if first is None else first
    references, cotangent = make_boxes(6, 5, FLOAT), rng.standard_normal((6, 4))

    def loss(x):
        return ops.sum(function(x, references) * ops.cast(cotangent, FLOAT))

    [gradient] = gradients(loss, [first])
    step = rng.standard_normal(first.shape) * (1e-5 if FLOAT == "float64" else 1e-2)
    change = float(loss(first + step) - loss(first - step)) / 2
    tolerance = 1e-8 if FLOAT == "float64" else 1e-3
    assert (gradient * step).sum() == pytest.approx(change, rel=tolerance)


def test_clipping_to_each_image():
    one = np.array([[-5.0, -5, 100, 100]], "float32")
    clipped = boxes.clip(np.stack([one, one]), np.array([[20, 30], [40, 50]]))
    expected = [[[0, 0, 30, 20]], [[0, 0, 50, 40]]]
    np.testing.assert_array_equal(to_numpy(clipped), expected)


def test_intersection_over_union():
    first, second = make_boxes(9, 6), make_boxes(7, 7)
    actual = to_numpy(boxes.iou(first, second))
    for i, j in np.ndindex(9, 7):
        a, b = first[i].astype(float), second[j].astype(float)
        width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
        height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        areas = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
        common = width * height
        assert actual[i, j] == pytest.approx(common / (areas - common), abs=1e-6)


def test_boxes_without_area_overlap_nothing():
    empty = np.zeros((1, 4), "float32")
    assert to_numpy(boxes.iou(empty, empty)).item() == 0
    assert to_numpy(boxes.iou(empty, make_boxes(1))).item() == 0


# === Anchors ===


def test_anchors_are_those_of_torchvision():
    """The stride of 13 positions along 800 pixels is 61, and sides are rounded."""
    anchors, counts = pyramid_anchors((800, 64), [(13, 1), (7, 1)], [32, 512])
    anchors = to_numpy(anchors)
    assert counts == [39, 21]
    sides = {(-23, -11, 23, 11), (-16, -16, 16, 16), (-11, -23, 11, 23)}
    assert {tuple(x) for x in anchors[:3].tolist()} == sides
    np.testing.assert_array_equal(anchors[3:6] - anchors[:3], [[0, 61, 0, 61]] * 3)
    np.testing.assert_array_equal(anchors[42:45] - anchors[39:42], [[0, 114] * 2] * 3)


# === Suppression ===


def suppress(boxes_, scores, threshold, count):
    """Greedy, in the order of scores."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        others = boxes_[kept]
        overlaps = to_numpy(boxes.iou(boxes_[i][None], others))[0] if kept else [0]
        if max(overlaps) <= threshold:
            kept.append(i)
    return kept[:count]


@needs_tensorflow
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_suppression_within_classes(threshold):
    rng = np.random.default_rng(8)
    candidates = np.stack([make_boxes(40, seed) for seed in (9, 10)], axis=1)[None]
    scores = rng.uniform(0.1, 1, (1, 40, 2)).astype("float32")
    found, values, classes, valid = map(
        to_numpy, non_max_suppression(candidates, scores, threshold, 0.2, 25)
    )
    expected = []
    for c in (0, 1):
        kept = suppress(candidates[0, :, c], scores[0, :, c], threshold, 40)
        expected += [(scores[0, i, c], c, *candidates[0, i, c]) for i in kept]
    expected = sorted((x for x in expected if x[0] > 0.2), reverse=True)[:25]
    count = valid[0]
    assert count == len(expected)
    rows = np.column_stack([values[0], classes[0], found[0]])[:count]
    np.testing.assert_array_equal(rows, np.array(expected, "float32"))


@pytest.mark.skipif(keras.config.backend() == "tensorflow", reason="it runs there")
def test_other_backends_are_refused():
    with pytest.raises(NotImplementedError, match="KERAS_BACKEND=tensorflow"):
        non_max_suppression(np.zeros((1, 1, 1, 4)), np.zeros((1, 1, 1)), 0.5, 0.5, 1)


# === Masks and keypoints ===


def test_masks_outside_of_the_image_are_cut():
    inside = paste_masks(np.ones((1, 28, 28)), np.array([[10, 10, 30, 30]]), (40, 40))
    across = paste_masks(np.ones((1, 28, 28)), np.array([[-10, -10, 10, 10]]), (40, 40))
    outside = paste_masks(np.ones((1, 28, 28)), np.array([[50, 50, 70, 70]]), (40, 40))
    assert inside.sum() > across.sum() > 0 == outside.sum()
    assert not across[0, 12:].any() and not across[0, :, 12:].any()


def test_a_mask_follows_its_box():
    mask = np.zeros((1, 28, 28))
    mask[0, :, :14] = 1  # the left half
    [pasted] = paste_masks(mask, np.array([[100, 50, 300, 150]]), (200, 400))
    rows, columns = pasted.nonzero()
    assert abs(rows.min() - 50) <= 2 and abs(rows.max() - 149) <= 2
    assert abs(columns.min() - 100) <= 2 and abs(columns.max() - 199) <= 4


def cubic(x, a=-0.75):
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0


@needs_tensorflow
def test_keypoints_are_maxima_of_bicubic_maps():
    rng = np.random.default_rng(11)
    maps = rng.standard_normal((2, 6, 6, 2)).astype("float32")
    corners = np.array([[3.5, 2.0, 14.7, 22.2], [5.0, 5.0, 5.2, 5.1]], "float32")
    points, scores = map(to_numpy, decode_keypoints(maps, corners))
    for i, (x1, y1, x2, y2) in enumerate(corners.astype(float)):
        w, h = max(x2 - x1, 1), max(y2 - y1, 1)
        width, height = math.ceil(w), math.ceil(h)
        for k in range(2):
            large = np.zeros((height, width))
            for y, x in np.ndindex(height, width):
                v, u = (y + 0.5) * 6 / height - 0.5, (x + 0.5) * 6 / width - 0.5
                for r in range(math.floor(v) - 1, math.floor(v) + 3):
                    for c in range(math.floor(u) - 1, math.floor(u) + 3):
                        cell = maps[i, min(max(r, 0), 5), min(max(c, 0), 5), k]
                        large[y, x] += cell * cubic(v - r) * cubic(u - c)
            y, x = np.unravel_index(large.argmax(), large.shape)
            expected = (x + 0.5) * w / width + x1, (y + 0.5) * h / height + y1
            np.testing.assert_allclose(points[i, k], expected, atol=1e-4)
            assert scores[i, k] == pytest.approx(large.max(), abs=1e-5)
