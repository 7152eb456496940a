"""Targets against loops straight from their definitions."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.detection.differences import assert_gradient
from trainers.detection.configs import SamplingConfig
from trainers.detection.targets import (
    box_targets,
    keypoint_targets,
    mask_targets,
    match,
    rpn_targets,
    sample,
)

SEEDS = tf.constant([[0, 1], [0, 2]])
EVERYTHING = SamplingConfig(rpn_batch_size=10**7, box_batch_size=10**7)


def iou(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = np.prod(np.maximum(sides, 0))
    return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


def draw_boxes(random, *shape, side=100.0):
    corners = random.uniform(0, side * 0.7, (*shape, 2))
    sides = random.uniform(side * 0.05, side * 0.3, (*shape, 2))
    return np.concatenate([corners, corners + sides], -1).astype("float32")


# === Matching ===


@pytest.mark.parametrize("all_best", [False, True])
def test_matches_are_those_of_the_definition(all_best):
    random = np.random.default_rng(0)
    boxes, candidates = draw_boxes(random, 4), draw_boxes(random, 300)
    candidates[:8] = boxes[[0, 0, 1, 1, 2, 2, 3, 3]] + random.uniform(-3, 3, (8, 4))
    is_object = np.array([True, True, False, True])
    objects, kinds = match(candidates, boxes, is_object, (0.3, 0.7), all_best)
    table = np.array([[iou(b, c) for c in candidates] for b in boxes])
    for i in range(300):
        own = np.where(is_object, table[:, i], -1)
        expected = 0 if own.max() < 0.3 else 1 if own.max() >= 0.7 else -1
        best_of = [j for j in (0, 1, 3) if table[j, i] == table[j].max()]
        if all_best and best_of:
            expected = 1
        assert kinds[i] == expected
        assert objects[i] == own.argmax()
    assert {-1, 0, 1} == set(kinds.numpy())


def test_all_anchors_that_tie_for_an_object_are_positive():
    # Sixteen anchors of 8 x 8 pixels hold the same part of a 40 x 40 object.
    corners = np.stack(np.meshgrid(np.arange(4) * 8, np.arange(4) * 8), -1)
    corners = corners.reshape(-1, 2).astype("float32") + 4
    anchors = np.concatenate([corners, corners + 8], axis=1)
    anchors = np.concatenate([anchors, [[80, 80, 88, 88]]]).astype("float32")
    boxes = np.array([[0, 0, 40, 40]], "float32")
    _, kinds = match(anchors, boxes, np.array([True]), (0.3, 0.7), all_best=True)
    assert kinds.numpy().tolist() == [1] * 16 + [0]


def test_a_best_anchor_keeps_the_object_that_it_overlaps_most():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 40, 40]], "float32")
    anchors = np.array([[0, 0, 12, 10], [60, 60, 70, 70]], "float32")
    objects, kinds = match(anchors, boxes, np.array([True, True]), (0.3, 0.7), True)
    assert kinds.numpy().tolist() == [1, 0]  # also the second object's best
    assert objects[0] == 0


# === Sampling ===


def kinds_of(num_positive, num_background, num_ignored=50):
    counts = {1: num_positive, 0: num_background, -1: num_ignored}
    kinds = np.concatenate([np.full(n, kind) for kind, n in counts.items()])
    return np.random.default_rng(1).permutation(kinds).astype("int32")


@pytest.mark.parametrize(
    ("num_positive", "num_background", "expected"),
    [(100, 100, (16, 48)), (5, 100, (5, 59)), (100, 10, (16, 10)), (0, 3, (0, 3))],
)
def test_a_sample_has_at_most_its_fraction_of_positives(
    num_positive, num_background, expected
):
    kinds = kinds_of(num_positive, num_background)
    found = sample(kinds, 64, 0.25, SEEDS[0])
    index, is_sampled, is_positive = (x.numpy() for x in found)
    chosen = kinds[index[is_sampled]]
    assert ((chosen == 1).sum(), (chosen == 0).sum()) == expected
    assert len(set(index[is_sampled])) == sum(expected)
    assert is_positive.tolist() == (np.arange(len(index)) < expected[0]).tolist()
    assert (kinds[index[is_positive]] == 1).all()


def test_a_sample_is_a_function_of_its_seed():
    kinds = kinds_of(100, 300)
    first, again, other = (
        sample(kinds, 64, 0.5, s)[0] for s in SEEDS.numpy()[[0, 0, 1]]
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_all_candidates_are_drawn_alike():
    kinds, hits = kinds_of(40, 40, 0), np.zeros(80)
    for i in range(200):
        index, is_sampled, _ = sample(kinds, 20, 0.5, (7, i))
        hits[index.numpy()[is_sampled.numpy()]] += 1
    assert np.abs(hits / 200 - 0.25).max() < 0.13  # four standard deviations


# === Heads ===


def test_anchors_get_the_deltas_of_their_objects():
    random = np.random.default_rng(2)
    boxes, anchors = draw_boxes(random, 2, 3), draw_boxes(random, 200)
    anchors[:6] = boxes.reshape(-1, 4) + 1
    is_object = np.array([[True, True, True], [True, False, False]])
    found = rpn_targets(anchors, boxes, is_object, SEEDS, EVERYTHING)
    index, is_positive = found["index"].numpy(), found["is_positive"].numpy()
    for image in range(2):
        objects, kinds = match(
            anchors, boxes[image], is_object[image], (0.3, 0.7), True
        )
        objects, kinds = objects.numpy(), kinds.numpy()
        sampled = index[image][found["is_sampled"].numpy()[image]]
        assert sorted(sampled) == np.flatnonzero(kinds >= 0).tolist()
        assert (
            sorted(index[image][is_positive[image]])
            == np.flatnonzero(kinds > 0).tolist()
        )
        for i, deltas in zip(index[image], found["deltas"].numpy()[image], strict=True):
            expected = np.zeros(4)
            if kinds[i] > 0:
                (x1, y1, x2, y2), (a1, b1, a2, b2) = (
                    boxes[image, objects[i]],
                    anchors[i],
                )
                expected[0] = ((x1 + x2) - (a1 + a2)) / 2 / (a2 - a1)
                expected[1] = ((y1 + y2) - (b1 + b2)) / 2 / (b2 - b1)
                expected[2] = math.log((x2 - x1) / (a2 - a1))
                expected[3] = math.log((y2 - y1) / (b2 - b1))
            np.testing.assert_allclose(deltas, expected, atol=1e-5)


def test_objects_join_the_proposals_and_fillers_do_not():
    random = np.random.default_rng(3)
    boxes, proposals = draw_boxes(random, 2, 3), draw_boxes(random, 2, 40)
    classes = np.array([[5, 7, 9], [4, 0, 0]], "int32")
    found = box_targets(
        proposals, tf.constant([30, 0]), boxes, classes, classes > 0, SEEDS, EVERYTHING
    )
    found = {name: value.numpy() for name, value in found.items()}
    assert found["is_sampled"].sum(axis=1).tolist() == [33, 1]
    first = found["is_positive"][0]
    for box, label, objects in zip(boxes[0], (5, 7, 9), range(3), strict=True):
        [row] = np.flatnonzero((found["boxes"][0] == box).all(axis=1))
        assert first[row] and found["labels"][0, row] == label
        assert found["objects"][0, row] == objects
        assert not found["deltas"][0, row].any()
    for box, label in zip(found["boxes"][0], found["labels"][0], strict=True):
        overlaps = [iou(box, other) for other in boxes[0]]
        expected = (5, 7, 9)[np.argmax(overlaps)] if max(overlaps) >= 0.5 else 0
        assert label == expected
    assert (np.diff(first.astype(int)) <= 0).all()  # positives come first


def test_what_is_no_object_is_background():
    crowd = np.array([[[10, 10, 50, 50]]], "float32")
    proposals = np.repeat(crowd, 5, axis=1) + np.float32([0, 0, 1, 1])
    nothing = np.array([[False]])
    rows = np.array([5]), crowd, np.array([[3]]), nothing
    found = box_targets(proposals, *rows, SEEDS[:1], EVERYTHING)
    assert found["is_sampled"].numpy().sum() == 5
    assert not found["is_positive"].numpy().any()
    assert not found["labels"].numpy().any() and not found["deltas"].numpy().any()
    found = rpn_targets(proposals[0], crowd, nothing, SEEDS[:1], EVERYTHING)
    assert found["is_sampled"].numpy().all()
    assert not found["is_positive"].numpy().any()


# === Masks ===


def interpolate(mask, y, x):
    """torchvision's `bilinear_interpolate`."""
    height, width = mask.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = max(y, 0), max(x, 0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v = 0.0 if bottom == top else y - top
    u = 0.0 if right == left else x - left
    rows = (1 - u) * mask[[top, bottom], left] + u * mask[[top, bottom], right]
    return (1 - v) * rows[0] + v * rows[1]


def roi_align_of_a_mask(mask, box, bins):
    x1, y1, x2, y2 = map(float, box)
    height, width = max(y2 - y1, 1), max(x2 - x1, 1)
    rows, columns = math.ceil(height / bins), math.ceil(width / bins)
    result = np.zeros((bins, bins))
    for i in range(bins):
        for j in range(bins):
            for a in range(rows):
                for b in range(columns):
                    y = y1 + (i + (a + 0.5) / rows) * height / bins
                    x = x1 + (j + (b + 0.5) / columns) * width / bins
                    result[i, j] += interpolate(mask, y, x) / (rows * columns)
    return result


def test_masks_are_those_of_roi_align():
    random = np.random.default_rng(4)
    masks = random.integers(0, 2, (2, 3, 48, 64), np.uint8)
    sizes = np.array([[40, 64], [48, 50]])
    boxes = np.array(
        [
            [[0, 0, 64, 40], [3.2, 5.7, 9.9, 30.1], [63.5, 39.5, 64, 40]],
            [[-2, -3, 20, 11], [49, 2, 50, 48], [10, 10, 10, 10]],
        ],
        "float32",
    )
    objects = np.array([[0, 2, 1], [1, 1, 0]], "int32")
    found = mask_targets(masks, tf.constant(boxes), objects, sizes, num_bins=7).numpy()
    for image, (height, width) in enumerate(sizes):
        for i in range(3):
            mask = masks[image, objects[image, i], :height, :width]
            expected = roi_align_of_a_mask(mask, boxes[image, i], 7)
            np.testing.assert_allclose(found[image, i], expected, atol=2e-5)
    assert 0 < found.max() <= 1 and ((found > 0.01) & (found < 0.99)).any()  # soft


def test_the_gradient_of_masks():
    random = np.random.default_rng(5)
    boxes = tf.constant([[[0.4, 1.1, 4.3, 3.9]]], tf.float64)
    weights = random.normal(size=(1, 1, 2, 2))

    def function(masks):
        found = mask_targets(masks, boxes, [[0]], [[4, 5]], num_bins=2)
        return tf.reduce_sum(found**2 * weights)

    assert_gradient(function, random.uniform(size=(1, 1, 4, 5)))


# === Keypoints ===


def test_keypoints_fall_into_the_cells_of_a_heatmap():
    box = [10.0, 20.0, 38.0, 76.0]  # two cells a pixel across, one down
    points = {
        (10.0, 20.0, 2): (0, 0),
        (10.49, 20.99, 1): (0, 0),
        (10.5, 21.0, 2): (1, 1),
        (37.99, 75.99, 2): (55, 55),
        (38.0, 76.0, 2): (55, 55),  # on the edges
        (38.01, 30.0, 2): None,
        (20.0, 19.99, 2): None,
        (20.0, 30.0, 0): None,  # not labelled
    }
    keypoints = np.array([[np.zeros((8, 3)), list(points)]], "float32")
    boxes = tf.constant([[box, [0.0, 0, 0, 0]]])
    cells, is_valid = keypoint_targets(keypoints, boxes, np.array([[1, 0]]))
    for i, expected in enumerate(points.values()):
        assert bool(is_valid[0, 0, i]) == (expected is not None)
        if expected:
            assert cells[0, 0, i] == expected[1] * 56 + expected[0]
    assert not is_valid.numpy()[0, 1].any()  # a filler, without size
