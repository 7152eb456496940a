"""The network of a task, against the clips it will be given."""

import pytest

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
def test_clips_too_small_for_the_network_are_told_of_at_once(crops, field):
    with pytest.raises(UserError, match=f"task.{field}.*too small"):
        make_task(*crops).build_model()
