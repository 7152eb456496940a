"""The recipes against the tables of the paper and of other projects, row by row.

The tables here are written from the publications, not from the recipes.
"""

import math
import re

import pytest

from tests.trainers.recipes import CONFIGS, named
from tests.trainers.test_configs import KINETICS, load, placement
from trainers.core.schedules import build_learning_rate

# === Kinetics: file -> network, clip, blocks, options, published top-1 and top-5 ===

FIVE = {50: {"res3": (1, 3), "res4": (1, 3, 5)}}
FIVE[101] = {"res3": (1, 3), "res4": (6, 13, 20)}
ONE = {50: {"res4": (4,)}, 101: {"res4": (21,)}}
TEN = {50: {"res3": (0, 1, 2, 3), "res4": (0, 1, 2, 3, 4, 5)}}
TEN[101] = {"res3": (0, 1, 2, 3), "res4": (2, 6, 10, 14, 18, 22)}
NONE = {50: {}, 101: {}}
LONG = {"normalization": None, "res3": {"group_size": 4}}


PAPER = {  # Tables 2 and 3
    "c2d_r50_32x2": ("c2d", NONE, {}, "71.8", "89.7"),
    "nl_c2d_r50_32x2_1_block_gaussian": (
        *("c2d", ONE, {"mode": "gaussian"}),
        *("72.5", "90.2"),
    ),
    "nl_c2d_r50_32x2_1_block": ("c2d", ONE, {}, "72.7", "90.5"),
    "nl_c2d_r50_32x2_1_block_dot_product": (
        *("c2d", ONE, {"mode": "dot_product"}),
        *("72.9", "90.3"),
    ),
    "nl_c2d_r50_32x2_1_block_concatenation": (
        *("c2d", ONE, {"mode": "concatenation"}),
        *("72.8", "90.5"),
    ),
    "nl_c2d_r50_32x2_1_block_res2": ("c2d", {50: {"res2": (1,)}}, {}, "72.7", "90.3"),
    "nl_c2d_r50_32x2_1_block_res3": ("c2d", {50: {"res3": (2,)}}, {}, "72.9", "90.4"),
    "nl_c2d_r50_32x2_1_block_res5": ("c2d", {50: {"res5": (1,)}}, {}, "72.3", "90.1"),
    "nl_c2d_r50_32x2": ("c2d", FIVE, {}, "73.8", "91.0"),
    "nl_c2d_r50_32x2_10_blocks": ("c2d", TEN, {}, "74.3", "91.2"),
    "nl_c2d_r50_32x2_space": ("c2d", FIVE, {"scope": "space"}, "72.9", "90.8"),
    "nl_c2d_r50_32x2_time": ("c2d", FIVE, {"scope": "time"}, "73.1", "90.5"),
    "i3d_r50_32x2": ("i3d", NONE, {}, "73.3", "90.7"),
    "nl_i3d_r50_32x2": ("i3d", FIVE, {}, "74.9", "91.6"),
    "c2d_r50_128x1": ("c2d", NONE, {}, "73.8", "91.2"),
    "i3d_r50_128x1": ("i3d", NONE, {}, "74.9", "91.7"),
    "nl_i3d_r50_128x1": ("i3d", FIVE, LONG, "76.5", "92.6"),
    "c2d_r101_32x2": ("c2d", NONE, {}, "73.1", "91.0"),
    "nl_c2d_r101_32x2_1_block": ("c2d", ONE, {}, "74.3", "91.3"),
    "nl_c2d_r101_32x2": ("c2d", FIVE, {}, "75.1", "91.7"),
    "nl_c2d_r101_32x2_10_blocks": ("c2d", TEN, {}, "75.1", "91.6"),
    "nl_c2d_r101_32x2_space": ("c2d", FIVE, {"scope": "space"}, "74.4", "91.3"),
    "nl_c2d_r101_32x2_time": ("c2d", FIVE, {"scope": "time"}, "74.4", "90.5"),
    "i3d_r101_32x2_3x3x3": ("i3d", NONE, {}, "74.1", "91.2"),
    "i3d_r101_32x2": ("i3d", NONE, {}, "74.4", "91.1"),
    "nl_i3d_r101_32x2": ("i3d", FIVE, {}, "76.0", "92.1"),
    "c2d_r101_128x1": ("c2d", NONE, {}, "75.3", "91.8"),
    "i3d_r101_128x1": ("i3d", NONE, {}, "76.4", "92.7"),
    "nl_i3d_r101_128x1": ("i3d", FIVE, LONG, "77.7", "93.3"),
}
AUTHORS = {  # README of video-nonlocal-net
    "c2d_r50_32x2": ("c2d", NONE, {}, "72.0", "90.0"),
    "nl_c2d_r50_32x2": ("c2d", FIVE, {}, "73.9", "91.0"),
    "i3d_r50_32x2": ("i3d", NONE, {}, "73.6", "90.8"),
    "nl_i3d_r50_32x2": ("i3d", FIVE, {}, "74.9", "91.6"),
    "i3d_r50_128x1": ("i3d", NONE, {}, "75.2", "92.0"),
    "nl_i3d_r50_128x1": ("i3d", FIVE, LONG, "76.5", "92.7"),
    "c2d_r50_8x8": ("c2d", NONE, {}, "71.9", "90.0"),
    "nl_c2d_r50_8x8": ("c2d", FIVE, {}, "74.4", "91.4"),
    "i3d_r50_8x8": ("i3d", NONE, {}, "73.4", "90.9"),
    "nl_i3d_r50_8x8": ("i3d", FIVE, {}, "74.7", "91.6"),
    "i3d_r50_32x4": ("i3d", NONE, {}, "75.5", "92.0"),
    "nl_i3d_r50_32x4": ("i3d", FIVE, LONG, "76.5", "92.6"),
}
DOT, GAUSSIAN = {"mode": "dot_product"}, {"mode": "gaussian"}
OTHERS = {  # MODEL_ZOO.md of PySlowFast, README of mmaction2
    "pyslowfast_i3d_r50_8x8": ("i3d", NONE, {}, "73.5", "90.8"),
    "pyslowfast_nl_i3d_r50_8x8": ("i3d", FIVE, {}, "74.0", "91.1"),
    "mmaction2_i3d_r50_32x2": ("i3d", NONE, {}, "73.47", "91.27"),
    "mmaction2_nl_i3d_r50_32x2_embedded_gaussian": ("i3d", FIVE, {}, "74.73", "91.80"),
    "mmaction2_nl_i3d_r50_32x2_dot_product": ("i3d", FIVE, DOT, "74.80", "92.07"),
    "mmaction2_nl_i3d_r50_32x2_gaussian": ("i3d", FIVE, GAUSSIAN, "73.97", "91.33"),
}
ROWS = [*PAPER.items(), *AUTHORS.items(), *OTHERS.items()]


def recipe(name):
    return CONFIGS / "kinetics400" / f"{name}.yaml"


def text_of(path):
    """The header, in one line."""
    return " ".join(re.sub(r"\n#\s*", " ", path.read_text()).split())


def rates(experiment, *steps):
    schedule = build_learning_rate(experiment.trainer.optimizer_config)
    return [float(schedule(step)) for step in steps]


def test_every_row_has_a_recipe():
    assert {path.stem for path in KINETICS} == {name for name, _ in ROWS}


@pytest.mark.parametrize(("name", "row"), ROWS, ids=lambda x: x if x else "")
def test_networks_and_numbers_are_those_of_the_row(name, row):
    network, blocks, options, top1, top5 = row
    depth, clip = re.search(r"_r(\d+)_(\d+x\d+)", name).groups()
    task = load(recipe(name)).task
    assert (task.model.name, task.model.depth) == (network, int(depth))
    assert placement(task.model) == blocks[int(depth)]
    assert (task.model.as_dict()["non_local_options"] or {}) == options
    assert f"{task.clip.num_frames}x{task.clip.temporal_stride}" == clip
    assert task.model.stem == {"128x1": "32x2", "32x4": "8x8"}.get(clip, clip)
    kernel = "3x3x3" if name.endswith("3x3x3") else None
    assert task.model.temporal_kernel == kernel
    assert task.model.dropout_rate == 0.5
    assert f"{top1} % top-1, {top5} % top-5" in text_of(recipe(name))
    index = (CONFIGS / "README.md").read_text()
    cell = rf"\[`{name}`\]\(kinetics400/{name}\.yaml\) \| {top1} / {top5} \|"
    assert re.search(cell, index)


# === Kinetics: training and test ===


def is_long(path):
    return path.stem.endswith(("_128x1", "_32x4"))


def is_of_authors(path):
    return not path.stem.startswith(("pyslowfast", "mmaction2"))


@pytest.mark.parametrize("path", filter(is_of_authors, KINETICS), ids=named)
def test_the_authors_training_and_test(path):
    experiment = load(path)
    task, trainer = experiment.task, experiment.trainer
    assert task.model.convention == "video_nonlocal_net"
    assert task.clip.mean is task.clip.std is None  # the convention's
    train, test = task.train_data, task.validation_data
    assert (train.min_short_side, train.max_short_side) == (256, 320)
    assert (train.crop_size, train.horizontal_flip) == (224, True)
    assert test.test_protocol == "video_nonlocal_net"
    assert (test.num_test_clips, test.num_test_crops) == (10, 3)
    assert (test.min_short_side, test.crop_size) == (256, 256)
    sgd = trainer.optimizer_config.optimizer.get()
    assert (sgd.momentum, sgd.nesterov, sgd.weight_decay) == (0.9, True, 1e-4)
    assert trainer.train_steps == 400_000
    # COMPUTE_PRECISE_BN, which the scripts of long clips switch off
    assert trainer.precise_batch_norm.num_batches == (0 if is_long(path) else 200)
    batch, rate = (16, 0.0025) if is_long(path) else (64, 0.01)
    assert train.global_batch_size == batch
    assert trainer.optimizer_config.reference_batch_size == batch
    found = rates(experiment, 0, 149_999, 150_001, 299_999, 300_001, 400_000)
    relative = [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert found == pytest.approx([rate * x for x in relative])


@pytest.mark.parametrize("path", filter(is_of_authors, KINETICS), ids=named)
def test_the_chain_of_the_authors(path):
    task = load(path).task
    assert task.freeze_batch_norm == is_long(path)
    if is_long(path):
        earlier = path.stem.removeprefix("nl_")
        earlier = earlier.replace("128x1", "32x2").replace("32x4", "8x8")
        assert task.init_checkpoint == f"runs/kinetics400/{earlier}"
        assert task.init_checkpoint_modules == "all"
    else:
        assert task.init_checkpoint == f"weights/resnet{task.model.depth}.pth"
        assert task.init_checkpoint_modules == "backbone"


def test_pyslowfast_trains_from_scratch_on_a_cosine():
    for name in filter(lambda x: x.startswith("pyslowfast"), OTHERS):
        experiment = load(recipe(name))
        task, epoch = experiment.task, 234_643 // 64
        assert task.model.convention == "pyslowfast" and not task.init_checkpoint
        assert task.validation_data.test_protocol == "pyslowfast"
        assert task.train_data.global_batch_size == 64
        assert experiment.trainer.train_steps == 196 * epoch
        assert experiment.trainer.precise_batch_norm.num_batches == 200
        # LR_POLICY: cosine, of the whole training; a linear warm-up replaces its start.
        top = 0.05 * (1 + math.cos(math.pi * 34 / 196))
        found = rates(experiment, 0, 17 * epoch, 34 * epoch, 98 * epoch, 196 * epoch)
        expected = [0.01, (0.01 + top) / 2, top, 0.05, 0]
        assert found == pytest.approx(expected, abs=1e-6)


def test_mmaction2_trains_100_epochs_from_imagenet():
    for name in filter(lambda x: x.startswith("mmaction2"), OTHERS):
        experiment = load(recipe(name))
        task, epoch = experiment.task, 240_436 / 64
        assert task.model.convention == task.validation_data.test_protocol
        assert task.model.convention == "mmaction2"
        assert task.init_checkpoint == "weights/resnet50.pth"
        train = task.train_data
        assert (train.crop_size, train.global_batch_size) == (224, 64)
        assert (train.min_short_side, train.max_short_side) == (224, 224 / 0.8)
        sgd = experiment.trainer.optimizer_config.optimizer.get()
        assert (sgd.nesterov, sgd.global_clipnorm, sgd.weight_decay) == (
            *(False, 40, 1e-4),
        )
        assert experiment.trainer.train_steps == pytest.approx(100 * epoch, rel=1e-4)
        assert experiment.trainer.precise_batch_norm.num_batches == 0
        steps = [round(epoch * x) for x in (0, 39, 41, 79, 81, 99)]
        expected = [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
        assert rates(experiment, *steps) == pytest.approx(expected)


# === Charades ===


@pytest.mark.parametrize(
    ("name", "blocks", "mean_ap"),
    [("charades_i3d_r101", NONE, "35.5"), ("charades_nl_i3d_r101", FIVE, "37.5")],
)
def test_charades_is_that_of_table_4(name, blocks, mean_ap):
    path = CONFIGS / f"{name}.yaml"
    experiment, text = load(path), text_of(path)
    task, index = experiment.task, (CONFIGS / "README.md").read_text()
    assert placement(task.model) == blocks[101]
    assert (task.model.name, task.model.depth, task.model.stem) == ("i3d", 101, "32x2")
    assert (task.clip.num_frames, task.clip.temporal_stride) == (128, 1)
    assert task.freeze_batch_norm and task.init_checkpoint_modules == "backbone"
    earlier = name.replace("charades_", "") + "_128x1"
    assert task.init_checkpoint == f"runs/kinetics400/{earlier}"
    train, test = task.train_data, task.validation_data
    assert train.is_multilabel and test.is_multilabel
    assert (train.global_batch_size, train.crop_size) == (8, 288)
    sides = (train.min_short_side, train.max_short_side)
    assert sides == (round(256 * 288 / 224), round(320 * 288 / 224))
    assert (test.test_protocol, test.num_test_clips) == ("paper", 10)
    assert (test.min_short_side, test.num_test_crops) == (320, 1)
    assert experiment.trainer.train_steps == 200_000
    found = rates(experiment, 0, 74_999, 75_001, 149_999, 150_001)
    expected = [0.00125, 0.00125, 0.000125, 0.000125, 0.0000125]
    assert found == pytest.approx(expected)
    assert f"{mean_ap} mAP" in text
    assert f"[`{name}`]({name}.yaml) | {mean_ap} |" in index


def test_charades_of_long_term_feature_banks():
    experiment = load(CONFIGS / "charades_nl_i3d_r50.yaml")
    task = experiment.task
    assert placement(task.model) == FIVE[50]
    assert (task.clip.num_frames, task.clip.temporal_stride) == (32, 4)
    assert task.train_data.global_batch_size == 16
    sgd = experiment.trainer.optimizer_config.optimizer.get()
    assert (sgd.weight_decay, task.model.dropout_rate) == (1.25e-5, 0.3)
    assert rates(experiment, 0, 20_001) == pytest.approx([0.02, 0.002])
    assert experiment.trainer.train_steps == 24_000
    assert "38.3 mAP" in text_of(CONFIGS / "charades_nl_i3d_r50.yaml")
