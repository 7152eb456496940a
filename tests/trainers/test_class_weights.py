"""Weights of classes in the training loss, against plain loops."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainers.core.errors import UserError
from trainers.video_classification import losses
from trainers.video_classification.configs import (
    LossesConfig,
    VideoClassificationConfig,
)
from trainers.video_classification.task import VideoClassificationTask

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(5, 3)).astype(np.float32)
WEIGHTS = np.array([0.5, 3.0, 1.5], np.float32)
NAMES = ("run", "sit", "swim")


def test_balanced_weights_have_a_mean_of_1_over_the_labels():
    counts = [60, 25, 10, 0, 5]
    weights = losses.class_weights("balanced", ["a"] * 5, counts)
    np.testing.assert_allclose(
        weights, [100 / (4 * 60), 1, 2.5, 1, 5], rtol=1e-6
    )  # w_k = N / (K n_k), for the four classes that have videos
    assert np.dot(weights, counts) == pytest.approx(100)


def test_weights_are_given_by_name_or_in_label_order():
    named = losses.class_weights({"swim": 2, "run": 0.5}, NAMES, [1, 1, 1])
    np.testing.assert_array_equal(named, [0.5, 1, 2])
    listed = losses.class_weights([1, 2, 3], NAMES, [1, 1, 1])
    np.testing.assert_array_equal(listed, [1, 2, 3])
    numbered = losses.class_weights({1: 4.0}, ["0", "1"], [1, 1])
    np.testing.assert_array_equal(numbered, [1, 4])


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"swin": 2}, "class_weights: there is no class 'swin'.*'swim'"),
        ([1, 2], "has 2 weights, but there are 3 classes"),
        ([0, 0.0, 0], "class_weights are all 0: .* at least one class"),
        (dict.fromkeys(NAMES, 0), "class_weights are all 0"),
    ],
)
def test_weights_that_do_not_fit_the_classes_are_refused(setting, message):
    with pytest.raises(UserError, match=message):
        losses.class_weights(setting, NAMES, [1, 1, 1])


@pytest.mark.parametrize(
    "setting, message",
    [
        ("balancd", "class_weights is 'balancd'. Did you mean 'balanced'"),
        ([1, -1], "at least 0. Received: -1"),
        ({"run": "x"}, "at least 0. Received: 'x'"),
        ({"run": float("nan")}, "at least 0. Received: nan"),
    ],
)
def test_weights_that_are_no_weights_are_refused(setting, message):
    with pytest.raises(UserError, match=message):
        LossesConfig(class_weights=setting).check()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_softmax_loss_of_a_clip_is_multiplied_by_the_weight_of_its_class(smoothing):
    labels = np.array([0, 2, 1, 1, 2], np.int32)
    plain = losses.softmax_losses(labels, LOGITS, smoothing)
    weighted = losses.softmax_losses(labels, LOGITS, smoothing, WEIGHTS)
    expected = [w * x for w, x in zip(WEIGHTS[labels], plain.numpy(), strict=True)]
    np.testing.assert_allclose(weighted, expected, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_each_term_of_the_sigmoid_loss_is_multiplied_by_its_own_weight(smoothing):
    labels = RANDOM.integers(0, 2, (5, 3)).astype(np.float32)
    targets = (1 - smoothing) * labels + smoothing / 2
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    terms = -(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    expected = [
        sum(w * x for w, x in zip(WEIGHTS, row, strict=True)) / 3 for row in terms
    ]
    weighted = losses.sigmoid_losses(labels, LOGITS, smoothing, WEIGHTS)
    np.testing.assert_allclose(weighted, expected, rtol=1e-5)


@pytest.fixture
def task(tmp_path):
    """On a list of 3 videos of class 0 and 1 of class 1."""
    for name in "abcd":
        (tmp_path / f"{name}.mp4").touch()
    (tmp_path / "list.txt").write_text("a.mp4 0\nb.mp4 0\nc.mp4 0\nd.mp4 1\n")
    config = VideoClassificationConfig()
    config.train_data.input_path = str(tmp_path / "list.txt")
    config.losses.class_weights = "balanced"
    return VideoClassificationTask(config)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.GlobalAveragePooling3D(), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((2, 4, 4, 3)), *layers])


def batch(count):
    clips = RANDOM.integers(0, 256, (count, 2, 4, 4, 3), np.uint8)
    labels = tf.constant([0, 0, 1, 0, 1, 0][:count], tf.int32)
    return {"clip": tf.constant(clips), "label": labels, "weight": tf.ones(count)}


def test_training_is_weighted_and_evaluation_is_not(task, model):
    inputs = batch(4)
    plain, _ = task.forward(inputs, model, training=False)
    weighted, _ = task.forward(inputs, model, training=True)
    factors = np.array([4 / 6, 4 / 6, 2, 4 / 6])  # N / (K n_k) of 4 videos
    np.testing.assert_allclose(weighted, plain * factors, rtol=1e-6)
    tested = {name: tf.zeros(4, tf.int32) for name in ("video", "view")}
    scored = task.validation_step(inputs | tested, model)
    np.testing.assert_allclose(scored["loss"], plain, rtol=1e-5)


def test_the_parts_of_replicas_add_up_to_the_step_of_one(task, model):
    inputs, optimizer = batch(6), keras.optimizers.SGD()
    total = tf.constant(6.0)

    def share(first, last):
        part = {name: value[first:last] for name, value in inputs.items()}
        gradients, sums = task.gradients(part, model, optimizer, total)
        return [g.numpy() for g in gradients], np.array(sums["loss"])

    whole, whole_loss = share(0, 6)
    parts = [share(0, 2), share(2, 6)]
    for index, gradient in enumerate(whole):
        added = parts[0][0][index] + parts[1][0][index]
        np.testing.assert_allclose(added, gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts[0][1] + parts[1][1], whole_loss, rtol=1e-6)
    weighted, _ = task.forward(inputs, model, training=True)
    mean = whole_loss[0] / whole_loss[1]
    np.testing.assert_allclose(mean, np.sum(weighted) / 6, rtol=1e-6)


def test_weights_that_do_not_fit_are_refused_before_the_first_step(task):
    task.task_config.losses.class_weights = {"3": 2.0}
    with pytest.raises(UserError, match="there is no class '3'"):
        task.build_inputs(task.task_config.train_data)
