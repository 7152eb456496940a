"""Losses against their formulas, and their gradients against differences."""

import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal.ops import boxes as box_ops
from tests.trainers.detection.differences import assert_gradient
from trainers.detection import losses

RANDOM = np.random.default_rng(0)
LABELS = np.array([[2, 0, 1], [0, 1, 0]], "int32")
IS_POSITIVE = LABELS > 0
IS_SAMPLED = np.array([[True, True, True], [True, True, False]])
TARGETS = {
    "index": np.array([[4, 0, 3], [1, 2, 0]], "int32"),
    "labels": LABELS,
    "is_positive": IS_POSITIVE,
    "is_sampled": IS_SAMPLED,
    "deltas": RANDOM.normal(size=(2, 3, 4)) * IS_POSITIVE[..., None],
}
MASKS = RANDOM.uniform(size=(2, 3, 2, 2))
CELLS = RANDOM.integers(0, 4, (2, 3, 2)).astype("int32")
IS_VISIBLE = RANDOM.integers(0, 2, (2, 3, 2)).astype(bool)


def log_softmax(x):
    x = x - x.max()
    return x - np.log(np.exp(x).sum())


def smooth_l1(x, beta=1 / 9):
    return sum(0.5 * v**2 / beta if abs(v) < beta else abs(v) - beta / 2 for v in x)


def binary(logit, label):
    p = 1 / (1 + np.exp(-logit))
    return -(label * np.log(p) + (1 - label) * np.log(1 - p))


def rows(chosen):
    return [tuple(row) for row in np.argwhere(chosen)]


def expected_objectness(x):
    index = TARGETS["index"]
    terms = {r: binary(x[r[0], index[r]], IS_POSITIVE[r]) for r in rows(IS_SAMPLED)}
    return terms, IS_SAMPLED.sum(1)


def expected_anchors(x):
    index, deltas = TARGETS["index"], TARGETS["deltas"]
    terms = {r: smooth_l1(x[r[0], index[r]] - deltas[r]) for r in rows(IS_POSITIVE)}
    return terms, IS_SAMPLED.sum(1)


def expected_classes(x):
    terms = {r: -log_softmax(x[r])[LABELS[r]] for r in rows(IS_SAMPLED)}
    return terms, IS_SAMPLED.sum(1)


def expected_boxes(x):
    deltas = TARGETS["deltas"]
    terms = {r: smooth_l1(x[r][LABELS[r]] - deltas[r]) for r in rows(IS_POSITIVE)}
    return terms, IS_SAMPLED.sum(1)


def expected_masks(x):
    terms = {
        r: np.mean(binary(x[r][..., LABELS[r]], MASKS[r])) for r in rows(IS_POSITIVE)
    }
    return terms, IS_POSITIVE.sum(1)


def expected_keypoints(x):
    maps = x.reshape(2, 3, 4, 2)
    terms = {}
    for image, box, point in rows(IS_VISIBLE):
        own = log_softmax(maps[image, box, :, point])
        terms[image, box, point] = -own[CELLS[image, box, point]]
    return terms, IS_VISIBLE.sum((1, 2))


CASES = {
    "objectness": (
        *(lambda x: losses.objectness_losses(x, TARGETS), expected_objectness),
        *((2, 5),),
    ),
    "anchors": (
        *(lambda x: losses.anchor_losses(x, TARGETS), expected_anchors),
        *((2, 5, 4),),
    ),
    "classes": (
        *(lambda x: losses.class_losses(x, TARGETS), expected_classes),
        *((2, 3, 3),),
    ),
    "boxes": (
        *(lambda x: losses.box_losses(x, TARGETS), expected_boxes),
        *((2, 3, 3, 4),),
    ),
    "masks": (
        *(lambda x: losses.mask_losses(x, LABELS, MASKS, IS_POSITIVE), expected_masks),
        *((2, 3, 2, 2, 3),),
    ),
    "keypoints": (
        *(lambda x: losses.keypoint_losses(x, CELLS, IS_VISIBLE), expected_keypoints),
        *((2, 3, 2, 2, 2),),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_losses_are_the_sums_of_their_terms(name):
    compute, expect, shape = CASES[name]
    x = np.random.default_rng(1).normal(size=shape)
    sums, counts = compute(tf.constant(x))
    terms, expected_counts = expect(x)
    expected = [sum(v for r, v in terms.items() if r[0] == i) for i in range(2)]
    np.testing.assert_allclose(sums, expected, rtol=1e-12)
    assert counts.numpy().tolist() == expected_counts.tolist()
    assert min(expected) > 0


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_losses(name):
    compute, _, shape = CASES[name]

    def function(x):
        sums, counts = compute(x)
        return tf.reduce_sum(sums) / tf.reduce_sum(counts)

    assert_gradient(function, np.random.default_rng(2).normal(size=shape))


@pytest.mark.parametrize("code", [box_ops.encode, box_ops.decode])
def test_gradients_of_box_coding(code):
    references = np.array([[10.0, 12, 30, 60], [0, 0, 8, 8]])
    first = {
        box_ops.encode: np.array([[9.0, 14, 33, 50], [1, 2, 5, 9]]),
        box_ops.decode: np.array([[0.3, -1, 2, 0.5], [1, 0, -3, 0.2]]),
    }[code]
    weights = np.random.default_rng(3).normal(size=(2, 4))

    def function(x, y):
        return tf.reduce_sum(tf.math.sin(code(x, y)) * weights)

    assert_gradient(lambda x: function(x, references), first)
    assert_gradient(lambda x: function(first, x), references)


def test_the_kink_of_smooth_l1():
    values = losses.smooth_l1(tf.constant([0.0, 0.5, 1.0, -2.0]), beta=1.0).numpy()
    assert values.tolist() == [0, 0.125, 0.5, 1.5]
