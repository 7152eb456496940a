"""Experiment factories, which the YAML files in `configs/` name and change.

Each is the part of a recipe that the rows of a table have in common: data, optimizer,
schedule and test protocol. A YAML file has what its row changes: network and clips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.core.experiments import register_experiment

if TYPE_CHECKING:
    from trainers.core.config_definitions import ExperimentConfig

DEFAULT = "video_classification"


@register_experiment(DEFAULT)
def video_classification() -> ExperimentConfig:
    """Your own clips: I3D R50, small batches, constant learning rate."""
    # Imports TensorFlow, in seconds; the names of the experiments are needed before.
    from trainers.core.config_definitions import ExperimentConfig
    from trainers.video_classification.configs import VideoClassificationConfig

    config = ExperimentConfig(task=VideoClassificationConfig())
    config.task.train_data.global_batch_size = 8
    config.task.validation_data.global_batch_size = 8
    config.trainer.optimizer_config.learning_rate.type = "constant"
    config.trainer.optimizer_config.learning_rate.constant.learning_rate = 0.00125
    config.trainer.train_steps = 1000
    return config


# === Kinetics-400 ===


@register_experiment("kinetics400")
def kinetics400() -> ExperimentConfig:
    """The paper's recipe: 64 clips a step, 400k steps, rate / 10 at 150k and 300k.

    Starts from ImageNet weights: of `init_checkpoint` all but the classifier is used,
    whatever pixels it was trained on. Evaluated with statistics of batch normalisation
    over 200 training batches, as in the authors' code, and tested by the protocol
    `video_nonlocal_net`, as its published numbers were: 10 clips x 3 crops of 256 x
    256. Evaluations during training score one view of each video.
    """
    config = _stepwise(64, [150_000, 300_000], [0.01, 0.001, 0.0001], 400_000)
    task = config.task
    task.init_checkpoint_modules = "backbone"
    task.init_checkpoint_pixels = "any"
    task.train_data.input_path = "data/kinetics400/train.csv"
    task.validation_data.input_path = "data/kinetics400/validate.csv"
    task.validation_data.global_batch_size = 60
    task.validation_data.set_test_protocol("video_nonlocal_net")
    config.trainer.precise_batch_norm.num_batches = 200
    config.trainer.checkpoint_interval = 10_000
    config.trainer.validation_interval = 20_000
    return config


@register_experiment("kinetics400_long")
def kinetics400_long() -> ExperimentConfig:
    """The paper's recipe for long clips, from a network trained on short ones.

    16 clips a step at a quarter of the rate, for as many steps; batch normalisation is
    frozen. All of `init_checkpoint` is used, the classifier too: training goes on where
    that of the short clips ended.
    """
    config = kinetics400()
    task = config.task
    task.init_checkpoint_modules = "all"
    task.init_checkpoint_pixels = "same"
    task.freeze_batch_norm = True
    config.trainer.precise_batch_norm.num_batches = 0
    task.validation_data.global_batch_size = 16
    _set_batch(config, 16)
    rate = config.trainer.optimizer_config.learning_rate
    rate.stepwise.values = [0.0025, 0.00025, 0.000025]
    return config


@register_experiment("kinetics400_pyslowfast")
def kinetics400_pyslowfast() -> ExperimentConfig:
    """PySlowFast's recipe from scratch: 196 epochs of a cosine, 34 of them warm-up.

    An epoch is 3,666 steps of 64 clips: the authors' 234,643 videos.
    """
    config = kinetics400()
    task, optimization = config.task, config.trainer.optimizer_config
    task.init_checkpoint_modules = "all"
    task.init_checkpoint_pixels = "same"
    task.model.convention = "pyslowfast"
    task.validation_data.set_test_protocol("pyslowfast")
    steps = 196 * 3_666
    optimization.learning_rate.type = "cosine"
    optimization.learning_rate.cosine.initial_learning_rate = 0.1
    optimization.learning_rate.cosine.decay_steps = steps
    optimization.warmup.type = "linear"
    optimization.warmup.linear.warmup_learning_rate = 0.01
    optimization.warmup.linear.warmup_steps = 34 * 3_666
    config.trainer.train_steps = steps
    return config


@register_experiment("kinetics400_mmaction2")
def kinetics400_mmaction2() -> ExperimentConfig:
    """mmaction2's recipe: 100 epochs, rate / 10 after 40 and 80, gradients clipped.

    An epoch is 3,757 steps of 64 clips: its 240,436 videos. The short side of training
    is uniform in [224, 280], where mmaction2 crops 1 or 0.8 of it.
    """
    config = kinetics400()
    task, optimization = config.task, config.trainer.optimizer_config
    task.init_checkpoint_pixels = "same"  # its networks take those of ImageNet's
    task.model.convention = "mmaction2"
    task.train_data.min_short_side = 224
    task.train_data.max_short_side = 280
    task.validation_data.set_test_protocol("mmaction2")
    optimization.optimizer.sgd.nesterov = False
    optimization.optimizer.sgd.global_clipnorm = 40.0
    optimization.learning_rate.stepwise.boundaries = [40 * 3_757, 80 * 3_757]
    config.trainer.precise_batch_norm.num_batches = 0
    config.trainer.train_steps = 100 * 3_757
    return config


# === Other data ===


@register_experiment("ucf101")
def ucf101() -> ExperimentConfig:
    """Fine-tuning: 16 clips a step, 20 epochs of split 1's 9,537 videos."""
    config = _stepwise(16, [6_000, 9_000], [0.0025, 0.00025, 0.000025], 12_000)
    config.task.init_checkpoint_modules = "backbone"  # other classes than Kinetics
    config.task.validation_data.global_batch_size = 60
    config.task.validation_data.set_test_protocol("video_nonlocal_net")
    config.trainer.checkpoint_interval = 1_000
    config.trainer.validation_interval = 3_000
    return config


@register_experiment("charades")
def charades() -> ExperimentConfig:
    """Several labels per video: sigmoids, the official mAP, maximum over views."""
    rates = [0.00125, 0.000125, 0.0000125]
    config = _stepwise(8, [75_000, 150_000], rates, 200_000)
    task = config.task
    task.init_checkpoint_modules = "backbone"  # other classes than Kinetics
    for data, name in ((task.train_data, "train"), (task.validation_data, "test")):
        data.input_path = f"data/charades/Charades_v1_{name}.csv"
        data.video_root = "data/charades/Charades_v1_480"
        data.is_multilabel = True
    task.validation_data.global_batch_size = 16
    task.validation_data.min_short_side = task.validation_data.crop_size = 256
    task.validation_data.num_test_clips = 10
    task.validation_data.num_test_crops = 3
    task.evaluation.view_aggregation = "max"
    task.evaluation.ranking = "labelled_first"
    config.trainer.checkpoint_interval = 10_000
    config.trainer.validation_interval = 20_000
    return config


# === Parts ===


def _stepwise(batch_size: int, boundaries, rates, train_steps: int) -> ExperimentConfig:
    """SGD whose rate drops at some steps."""
    config = video_classification()
    _set_batch(config, batch_size)
    rate = config.trainer.optimizer_config.learning_rate
    rate.type = "stepwise"
    rate.stepwise.boundaries = boundaries
    rate.stepwise.values = rates
    config.trainer.train_steps = train_steps
    return config


def _set_batch(config, size: int):
    """Sets the batch that the learning rates are for."""
    config.task.train_data.global_batch_size = size
    config.trainer.optimizer_config.reference_batch_size = size
