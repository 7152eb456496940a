"""The recipes of detection: each loads, and has the values of the publications.

The tables here are written from the paper, Detectron's configs of 12/2017 and
torchvision's references/detection, not from the recipes.
"""

import dataclasses
import inspect
import re

import pytest

from keras_nonlocal import KeypointRCNN
from keras_nonlocal.models.placement import STAGES, place
from keras_nonlocal.models.rcnn import RCNN
from keras_nonlocal.models.resnet import DEPTHS
from tests.trainers.recipes import (
    CONFIGS,
    commands,
    flag,
    named,
    num_replicas,
    of_script,
)
from trainers.core import config
from trainers.core.errors import UserError
from trainers.core.schedules import build_learning_rate
from trainers.detection import experiments  # noqa: F401 (registers)
from trainers.detection.configs import ModelConfig
from trainers.detection.modes import MODES

# Those of the demo are tested with it.
ALL = [path for path in of_script("detection.py") if path.parent == CONFIGS]
COCO = [path for path in ALL if path.name.startswith("coco_")]

# Tables 5 and 6: depth, block in res4, blocks in the head, what the header has.
NO, LAST = {}, {50: {"res4": (4,)}, 101: {"res4": (21,)}, 152: {"res4": (34,)}}
ROWS = {
    "coco_mask_rcnn_r50": (50, NO, False, "38.0 box AP, 34.6 mask AP"),
    "coco_mask_rcnn_r50_nl": (50, LAST, False, "39.0 box AP, 35.5 mask AP"),
    "coco_mask_rcnn_r101": (101, NO, False, "39.5 box AP, 36.0 mask AP"),
    "coco_mask_rcnn_r101_nl": (101, LAST, False, "40.8 box AP, 37.1 mask AP"),
    "coco_mask_rcnn_x152": (152, NO, False, "44.1 box AP, 39.7 mask AP"),
    "coco_mask_rcnn_x152_nl": (152, LAST, False, "45.0 box AP, 40.3 mask AP"),
    "coco_keypoint_rcnn_r101": (101, NO, False, "65.1 keypoint AP"),
    "coco_keypoint_rcnn_r101_nl_head": (101, NO, True, "66.0 keypoint AP"),
    "coco_keypoint_rcnn_r101_nl": (101, LAST, True, "66.5 keypoint AP"),
}
# Batch, rate, steps of the two drops and of the end.
DETECTRON = {
    "coco_mask_rcnn_1x": (16, 0.02, 60_000, 80_000, 90_000),
    "coco_mask_rcnn_2x": (16, 0.02, 120_000, 160_000, 180_000),
    "coco_mask_rcnn_x152": (8, 0.01, 200_000, 240_000, 260_000),
    "coco_keypoint_rcnn_1x": (16, 0.02, 60_000, 80_000, 90_000),
    "coco_keypoint_rcnn_s1x": (16, 0.02, 100_000, 120_000, 130_000),
}
TORCHVISION = {
    "coco_mask_rcnn_torchvision": (117_266, 16, 22, 26),
    "coco_keypoint_rcnn_torchvision": (56_599, 36, 43, 46),
}
SCALES = [640, 672, 704, 736, 768, 800]


def load(path, overrides=()):
    return config.load_experiment([str(path)], overrides)[1]


def rates(experiment, *steps):
    rate = build_learning_rate(experiment.trainer.optimizer_config)
    return [float(rate(step)) for step in steps]


@pytest.mark.parametrize("path", ALL, ids=named)
def test_every_config_loads_and_can_be_written_back(path, tmp_path):
    name, experiment = config.load_experiment([str(path)])
    experiment.task.check()
    batch = experiment.task.train_data.global_batch_size
    assert experiment.trainer.optimizer_config.rate_scale(batch) == 1
    again = tmp_path / "params.yaml"
    again.write_text(config.to_yaml(experiment, name))
    assert config.to_dict(load(again)) == config.to_dict(experiment)
    [size] = re.findall(r"Batch B instead of (\d+): the learning", path.read_text())
    assert int(size) == batch


@pytest.mark.parametrize("path", ALL, ids=named)
def test_the_commands_in_headers_can_be_run(path):
    [command] = [x for x in commands(path) if x[1] == "trainers/detection.py"]
    assert flag(command, "mode") == ["train_and_eval"] and "train_and_eval" in MODES
    assert flag(command, "config") == [str(path.relative_to(CONFIGS.parent))]
    assert flag(command, "model_dir") == [f"runs/{named(path)}"]
    load(path, flag(command, "params_override")).task.check()
    for schedule in re.findall(r"--experiment (\w+)", path.read_text()):
        assert config.load_experiment([str(path)], experiment=schedule)


@pytest.mark.parametrize("path", ALL, ids=named)
def test_what_a_recipe_starts_from_is_described(path):
    start = load(path).task.init_checkpoint
    assert f"`{start}`" in (CONFIGS / "README.md").read_text()
    assert f"Starts from: {start}" in path.read_text()


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_the_paper(name):
    depth, blocks, in_head, expected = ROWS[name]
    path = CONFIGS / f"{name}.yaml"
    task, text = load(path).task, path.read_text()
    model = task.model
    stages = dict(zip(STAGES, DEPTHS[depth], strict=True))
    placed = {k: v for k, v in place(model.non_local, stages).items() if v}
    assert placed == blocks.get(depth, {})
    assert (model.depth, model.head_non_local) == (depth, in_head)
    groups = (32, 8) if depth == 152 else (1, 64)
    assert (model.groups, model.group_width) == groups
    assert model.name == ("keypoint_rcnn" if "keypoint" in name else "mask_rcnn")
    assert f"Expected: {expected}" in text
    # Weights under torchvision's names were trained on its pixels.
    convention = "torchvision" if task.init_checkpoint.endswith(".pth") else "detectron"
    assert model.convention == convention and task.freeze_at == 2
    assert num_replicas(path) == 8


@pytest.mark.parametrize("name", DETECTRON)
def test_schedules_of_detectron(name):
    batch, rate, first, second, end = DETECTRON[name]
    experiment = config.build_experiment(name)
    task, trainer = experiment.task, experiment.trainer
    assert task.train_data.global_batch_size == batch
    assert trainer.train_steps == end
    steps = 0, 250, 500, first - 1, first + 1, second - 1, second + 1, end
    expected = [rate / 3, rate * 2 / 3, rate, rate, rate / 10, rate / 10]
    expected += [rate / 100] * 2
    assert rates(experiment, *steps) == pytest.approx(expected)
    sgd = trainer.optimizer_config.optimizer.get()
    assert (sgd.momentum, sgd.nesterov, sgd.weight_decay) == (0.9, False, 1e-4)
    assert (sgd.bias_rate_factor, sgd.decay_biases) == (2.0, False)
    assert sgd.momentum_correction
    many_scales = "keypoint" in name or "x152" in name
    assert list(task.train_data.min_size) == (SCALES if many_scales else [800])
    assert (task.train_data.max_size, task.validation_data.max_size) == (1333, 1333)
    assert list(task.validation_data.min_size) == [800]


@pytest.mark.parametrize("name", TORCHVISION)
def test_schedules_of_torchvision(name):
    images, first, second, end = TORCHVISION[name]
    experiment = config.build_experiment(name)
    task, epoch = experiment.task, images // 16
    assert experiment.trainer.train_steps == end * epoch
    steps = 0, 1000, first * epoch - 1, first * epoch + 1, second * epoch + 1
    expected = [0.02 / 1000, 0.02, 0.02, 0.002, 0.0002]
    assert rates(experiment, *steps) == pytest.approx(expected)
    sgd = experiment.trainer.optimizer_config.optimizer.get()
    assert (sgd.nesterov, sgd.bias_rate_factor, sgd.decay_biases) == (False, 1.0, True)
    assert task.model.convention == "torchvision" and task.freeze_at == 2
    is_keypoint = "keypoint" in name
    assert task.train_data.min_keypoints == (10 if is_keypoint else 1)
    assert list(task.train_data.min_size) == (SCALES if is_keypoint else [800])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.model.name=mask_rcn", "task.model.name is 'mask_rcn'. Did you mean"),
        ("task.freeze_at=6", "task.freeze_at must be from 0 to 5"),
        ("task.init_checkpoint=", "no trained weights to keep"),
        ("task.model.head_non_local=true", "head_non_local are of keypoint_rcnn"),
        ("task.sampling.box_iou=2.0", "task.sampling.box_iou must be from 0 to 1"),
        ("task.export.max_image_bytes=0", "max_image_bytes must be positive"),
        (
            "task.model.non_local_options={mode: gaussian, modes: 1}",
            "NonLocal2D has no argument 'modes'. Did you mean 'mode'?",
        ),
    ],
)
def test_wrong_settings_are_named(override, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load(COCO[0].with_name("coco_mask_rcnn_r50.yaml"), [override]).task.check()


def test_every_argument_of_the_networks_is_a_field():
    own = {"min_size", "max_size", "dtype", "trainable", "self", "options"}
    arguments = {
        *inspect.signature(RCNN.__init__).parameters,
        *inspect.signature(KeypointRCNN.__init__).parameters,
    }
    assert arguments - own <= {x.name for x in dataclasses.fields(ModelConfig)}
