"""Settings that would fail later, or have no effect, are refused."""

import re

import numpy as np
import pytest
import tensorflow as tf

from trainers.core.config import to_dict
from trainers.core.errors import UserError
from trainers.video_classification.configs import VideoClassificationConfig
from trainers.video_classification.data import normalize
from trainers.video_classification.data.configs import DataConfig
from trainers.video_classification.export import preprocessing
from trainers.video_classification.task import VideoClassificationTask


def make_config(path="", value=None):
    config = inner = VideoClassificationConfig()
    *folders, name = path.split(".")
    for folder in folders:
        inner = getattr(inner, folder)
    if name:
        setattr(inner, name, value)
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", None),
        ("train_data.is_training", None),
        ("train_data.is_training", True),
        ("validation_data.is_training", False),
        ("evaluation.view_aggregation", "max"),
        ("init_checkpoint_modules", "backbone"),
        ("model.convention", "mmaction2"),
        ("export.precision", "bfloat16"),
    ],
)
def test_right_settings_pass(path, value):
    make_config(path, value).check()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "evaluation.view_aggregation",
            "median",
            "task.evaluation.view_aggregation is 'median'. Did you mean 'mean'?",
        ),
        ("init_checkpoint_modules", "al", "init_checkpoint_modules is 'al'. Did you "),
        ("model.convention", "mmaction", "task.model.convention is 'mmaction'. Did "),
        ("export.precision", "bf16", "export.precision is 'bf16'. Did you mean 'bfl"),
        ("train_data.is_training", False, "task.train_data.is_training is False"),
        ("validation_data.is_training", True, "always False for this data set"),
        ("model.name", "c3d", "task.model.name is 'c3d'. Did you mean"),
        (
            "model.non_local_options",
            {"res3": {"mod": "dot"}},
            "task.model.non_local_options.res3: NonLocal3D has no argument 'mod'. "
            "Did you mean 'mode'?",
        ),
        ("clip.num_frames", 0, "task.clip: `num_frames` must be at least 1. Received"),
        ("train_data.crop_size", 0, "task.train_data: `crop_size` must be at least 1"),
        (
            "validation_data.num_test_clips",
            0,
            "task.validation_data: `num_test_clips` must be at least 1. Received: 0.",
        ),
        (
            "train_data.min_short_side",
            200,
            "task.train_data: Expected crop_size <= min_short_side",
        ),
        ("losses.label_smoothing", 1.0, "must be in [0, 1). Received: 1.0"),
    ],
)
def test_a_wrong_setting_is_named(path, value, message):
    with pytest.raises(UserError, match=re.escape(message)):
        VideoClassificationTask(make_config(path, value))


def test_is_training_may_be_left_out():
    config = make_config()
    config.train_data, config.validation_data = DataConfig(), DataConfig()
    VideoClassificationTask(config)
    assert config.train_data.is_training is True
    assert config.validation_data.is_training is False


def test_metrics_are_those_of_the_classes_and_labels():
    names = tuple("abcdef")
    config = make_config()
    task = VideoClassificationTask(config, class_names=names)
    assert task.metric_names[:4] == ("top1", "top5", "view_top1", "view_top5")
    assert task.best_metric in task.metric_names
    config.train_data.is_multilabel = config.validation_data.is_multilabel = True
    assert task.metric_names[:2] == ("mAP", "view_mAP")
    assert task.best_metric in task.metric_names


@pytest.mark.parametrize(
    ("convention", "mean", "std"),
    [
        ("video_nonlocal_net", (114.75,) * 3, (57.375,) * 3),
        ("mmaction2", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    ],
)
def test_clips_are_normalised_as_the_convention_expects(convention, mean, std):
    config = make_config("model.convention", convention)
    task = VideoClassificationTask(config, class_names=("a", "b"))
    clip = task.task_config.clip
    assert (tuple(clip.mean), tuple(clip.std)) == (mean, std)
    served = preprocessing(clip, task.task_config.validation_data)
    assert (served["mean"], served["std"]) == (list(mean), list(std))
    pixels = tf.constant([[10, 20, 30]], tf.uint8)
    expected = (np.array([10, 20, 30]) - mean) / std
    np.testing.assert_allclose(normalize(pixels, clip)[0], expected, rtol=1e-6)
    saved = to_dict(config)["clip"]  # what params.yaml holds
    assert (saved["mean"], saved["std"]) == (list(mean), list(std))


def test_statistics_of_the_config_are_kept():
    config = make_config("model.convention", "mmaction2")
    config.clip.std = (1.0, 2.0, 3.0)
    VideoClassificationTask(config)
    assert tuple(config.clip.mean) == (123.675, 116.28, 103.53)
    assert tuple(config.clip.std) == (1.0, 2.0, 3.0)
