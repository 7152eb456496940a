"""Experiment factories, which the YAML files in `configs/` name and change."""

from trainers.core.config import register_experiment
from trainers.core.config_definitions import ExperimentConfig
from trainers.video_classification.configs import VideoClassificationConfig

DEFAULT = "video_classification"


@register_experiment(DEFAULT)
def video_classification() -> ExperimentConfig:
    """Your own clips: I3D R50, small batches, constant learning rate."""
    config = ExperimentConfig(task=VideoClassificationConfig())
    config.task.train_data.global_batch_size = 8
    config.task.validation_data.global_batch_size = 8
    config.trainer.optimizer_config.learning_rate.type = "constant"
    config.trainer.optimizer_config.learning_rate.constant.learning_rate = 0.00125
    config.trainer.train_steps = 1000
    return config


@register_experiment("kinetics400")
def kinetics400() -> ExperimentConfig:
    """The paper's recipe: 64 clips a step, 400k steps, rate / 10 at 150k and 300k.

    Tested by the protocol `video_nonlocal_net`, as its published numbers were: 10 clips
    x 3 crops of 256 x 256. Evaluations during training score one view of each video.
    """
    config = video_classification()
    _set_batch(config, 64)
    test = config.task.validation_data
    test.global_batch_size = 60
    test.set_test_protocol("video_nonlocal_net")
    rate = config.trainer.optimizer_config.learning_rate
    rate.type = "stepwise"
    rate.stepwise.boundaries = [150_000, 300_000]
    rate.stepwise.values = [0.01, 0.001, 0.0001]
    config.trainer.train_steps = 400_000
    config.trainer.checkpoint_interval = 10_000
    config.trainer.validation_interval = 20_000
    return config


@register_experiment("ucf101")
def ucf101() -> ExperimentConfig:
    """Fine-tuning: 16 clips a step, 20 epochs of split 1's 9,537 videos."""
    config = kinetics400()
    _set_batch(config, 16)
    rate = config.trainer.optimizer_config.learning_rate
    rate.stepwise.boundaries = [6_000, 9_000]
    rate.stepwise.values = [0.0025, 0.00025, 0.000025]
    config.trainer.train_steps = 12_000
    config.trainer.checkpoint_interval = 1_000
    config.trainer.validation_interval = 3_000
    return config


@register_experiment("charades")
def charades() -> ExperimentConfig:
    """Several labels per video: sigmoids, the official mAP, maximum over views."""
    config = kinetics400()
    config.task.train_data.is_multilabel = True
    config.task.validation_data.is_multilabel = True
    config.task.validation_data.set_test_protocol("spread")
    _set_batch(config, 8)
    config.task.evaluation.view_aggregation = "max"
    config.task.evaluation.ranking = "labelled_first"
    rate = config.trainer.optimizer_config.learning_rate
    rate.stepwise.boundaries = [75_000, 150_000]
    rate.stepwise.values = [0.00125, 0.000125, 0.0000125]
    config.trainer.train_steps = 200_000
    return config


def _set_batch(config, size: int):
    """Sets the batch that the learning rates are for."""
    config.task.train_data.global_batch_size = size
    config.trainer.optimizer_config.reference_batch_size = size
