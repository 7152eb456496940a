"""Experiment factories, which the YAML files in `configs/` name and change.

Each is a schedule and its data. A YAML file has what its row changes: the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.core.experiments import register_experiment

if TYPE_CHECKING:
    from trainers.core.config_definitions import ExperimentConfig

DEFAULT = "detection"
_SCALES = [640, 672, 704, 736, 768, 800]
_IMAGES = 117_266  # of COCO's train2017 that have objects
_IMAGES_OF_PERSONS = 56_599  # that have one with 10 keypoints or more


@register_experiment(DEFAULT)
def detection() -> ExperimentConfig:
    """Your own images: Mask R-CNN R50, small batches, a cosine of the rate."""
    # Imports TensorFlow, in seconds; the names of the experiments are needed before.
    from trainers.core.config_definitions import ExperimentConfig
    from trainers.detection.configs import DetectionConfig

    config = ExperimentConfig(task=DetectionConfig())
    config.task.train_data.global_batch_size = 2
    config.task.validation_data.global_batch_size = 2
    trainer = config.trainer
    trainer.train_steps = 10_000
    optimization = trainer.optimizer_config
    optimization.optimizer.sgd.nesterov = False
    optimization.reference_batch_size = 2
    optimization.learning_rate.type = "cosine"
    optimization.learning_rate.cosine.initial_learning_rate = 0.0025
    optimization.learning_rate.cosine.decay_steps = 10_000
    _warm_up(config, 500, 0.0025 / 3)
    return config


# === Detectron's schedules, as of 12/2017: the paper's setting ===


@register_experiment("coco_mask_rcnn_1x")
def coco_mask_rcnn_1x() -> ExperimentConfig:
    """90k steps of 16 images, rate 0.02, / 10 at 60k and 80k; one scale."""
    return _detectron([60_000, 80_000], 90_000)


@register_experiment("coco_mask_rcnn_2x")
def coco_mask_rcnn_2x() -> ExperimentConfig:
    """Twice as long: / 10 at 120k and 160k of 180k."""
    return _detectron([120_000, 160_000], 180_000)


@register_experiment("coco_mask_rcnn_x152")
def coco_mask_rcnn_x152() -> ExperimentConfig:
    """ResNeXt-152: 8 images, rate 0.01, / 10 at 200k and 240k of 260k; six scales."""
    config = _detectron([200_000, 240_000], 260_000, batch_size=8, rate=0.01)
    config.task.train_data.min_size = list(_SCALES)
    return config


@register_experiment("coco_keypoint_rcnn_1x")
def coco_keypoint_rcnn_1x() -> ExperimentConfig:
    """Persons and their keypoints, six scales; steps as in `coco_mask_rcnn_1x`."""
    return _of_persons(coco_mask_rcnn_1x())


@register_experiment("coco_keypoint_rcnn_s1x")
def coco_keypoint_rcnn_s1x() -> ExperimentConfig:
    """The longer schedule of keypoints: / 10 at 100k and 120k of 130k."""
    return _of_persons(_detectron([100_000, 120_000], 130_000))


def _detectron(boundaries, train_steps, batch_size=16, rate=0.02):
    config = _coco(batch_size, boundaries, rate, train_steps)
    config.task.model.convention = "detectron"
    sgd = config.trainer.optimizer_config.optimizer.sgd
    sgd.bias_rate_factor = 2.0
    sgd.decay_biases = False
    _warm_up(config, 500, rate / 3)
    return config


# === torchvision's schedules, of its references/detection ===


@register_experiment("coco_mask_rcnn_torchvision")
def coco_mask_rcnn_torchvision() -> ExperimentConfig:
    """26 epochs of 16 images, rate 0.02, / 10 after 16 and 22; one scale."""
    return _torchvision(_IMAGES // 16, 16, 22, 26)


@register_experiment("coco_keypoint_rcnn_torchvision")
def coco_keypoint_rcnn_torchvision() -> ExperimentConfig:
    """46 epochs, / 10 after 36 and 43; images with a person of 10 keypoints or more."""
    config = _of_persons(_torchvision(_IMAGES_OF_PERSONS // 16, 36, 43, 46))
    config.task.train_data.min_keypoints = 10
    return config


def _torchvision(steps, first, second, last):
    """Steps of an epoch, and the epochs after which the rate drops and training ends.

    The warm-up goes through all of the first 1000 steps.
    """
    config = _coco(16, [first * steps, second * steps], 0.02, last * steps)
    config.task.train_data.aspect_ratio_grouping = True
    _warm_up(config, 1000, 0.02 / 1000)
    return config


# === Parts ===


def _coco(batch_size, boundaries, rate, train_steps) -> ExperimentConfig:
    """COCO 2017, from an ImageNet backbone of which conv1 and res2 stay as they are."""
    config = detection()
    task, trainer = config.task, config.trainer
    task.freeze_at = 2
    for data, split in ((task.train_data, "train"), (task.validation_data, "val")):
        data.input_path = f"data/coco/{split}2017"
        data.annotation_file = f"data/coco/annotations/instances_{split}2017.json"
    task.train_data.global_batch_size = batch_size
    task.validation_data.global_batch_size = 8
    trainer.optimizer_config.reference_batch_size = batch_size
    chosen = trainer.optimizer_config.learning_rate
    chosen.type = "stepwise"
    chosen.stepwise.boundaries = boundaries
    chosen.stepwise.values = [rate, rate / 10, rate / 100]
    trainer.train_steps = train_steps
    trainer.checkpoint_interval = 5_000
    trainer.validation_interval = 10_000
    return config


def _of_persons(config) -> ExperimentConfig:
    task = config.task
    task.model.name = "keypoint_rcnn"
    task.train_data.min_size = list(_SCALES)
    for data, split in ((task.train_data, "train"), (task.validation_data, "val")):
        file = f"data/coco/annotations/person_keypoints_{split}2017.json"
        data.annotation_file = file
    return config


def _warm_up(config, steps, start):
    warmup = config.trainer.optimizer_config.warmup
    warmup.type = "linear"
    warmup.linear.warmup_steps = steps
    warmup.linear.warmup_learning_rate = start
