"""The network of a task, against the clips it will be given."""

import numpy as np
import pytest
import tensorflow as tf

from trainers.core.errors import UserError
from trainers.video_classification.configs import VideoClassificationConfig
from trainers.video_classification.task import VideoClassificationTask


def make_task(train_crop, test_crop):
    config = VideoClassificationConfig()
    config.override(
        {
            "model": {"name": "c2d", "depth": 14, "width": 4},
            "clip": {"num_frames": 4},
            "train_data": {"min_short_side": train_crop, "crop_size": train_crop},
            "validation_data": {"min_short_side": test_crop, "crop_size": test_crop},
        }
    )
    return VideoClassificationTask(config, class_names=("a", "b"))


def test_test_crops_may_be_larger_than_training_crops():
    task = make_task(64, 96)
    assert task.build_model().input_shape == (None, None, None, None, 3)
    one_size = task.build_model((4, 64, 64, 3))  # as dry_run describes it
    assert one_size.input_shape == (None, 4, 64, 64, 3)


@pytest.mark.parametrize(("crops", "field"), [((4, 64), "train"), ((64, 4), "valid")])
def test_clips_too_small_for_the_network_are_refused_at_once(crops, field):
    with pytest.raises(UserError, match=f"task.{field}.*too small"):
        make_task(*crops).build_model()


def test_evaluations_use_the_present_weights_without_batch_normalisation():
    task = make_task(48, 48)
    model = task.build_model()
    random = np.random.default_rng(0)
    inputs = {
        "clip": tf.constant(random.integers(0, 256, (2, 4, 48, 48, 3), np.uint8)),
        **{name: tf.constant([0, 1]) for name in ("label", "video", "view", "weight")},
    }
    network = None
    for scale in (0.5, 3.0):
        for weight in model.weights:
            if weight.name in ("gamma", "moving_variance"):
                weight.assign(scale * random.uniform(0.5, 1.5, weight.shape))
        given, network = network, task.inference_model(model, network)
        assert given is None or network is given
        assert len(network.weights) < len(model.weights) / 2
        expected = task.validation_step(inputs, model)
        for name, value in task.validation_step(inputs, network).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6)
