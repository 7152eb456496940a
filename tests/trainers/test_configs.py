"""The recipes in `configs/`: each loads, and matches its header."""

import pathlib
import re

import pytest

from keras_nonlocal.models.placement import STAGES, place
from keras_nonlocal.models.resnet import DEPTHS
from trainers.core import config
from trainers.core.errors import UserError
from trainers.core.schedules import build_learning_rate
from trainers.video_classification import experiments  # noqa: F401 (registers)

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
ALL = sorted(CONFIGS.rglob("*.yaml"))
KINETICS = sorted(CONFIGS.glob("kinetics400_*.yaml"))
# README of video-nonlocal-net: top-1 and top-5.
PUBLISHED = {
    "c2d_r50_32x2": ("72.0", "90.0"),
    "nl_c2d_r50_32x2": ("73.9", "91.0"),
    "i3d_r50_32x2": ("73.6", "90.8"),
    "nl_i3d_r50_32x2": ("74.9", "91.6"),
    "c2d_r50_8x8": ("71.9", "90.0"),
    "nl_c2d_r50_8x8": ("74.4", "91.4"),
    "i3d_r50_8x8": ("73.4", "90.9"),
    "nl_i3d_r50_8x8": ("74.7", "91.6"),
}


def load(path, *more, overrides=()):
    _, experiment = config.load_experiment([str(path), *map(str, more)], overrides)
    return experiment


def named(path):
    return path.relative_to(CONFIGS).as_posix().removesuffix(".yaml")


def placement(model):
    blocks = dict(zip(STAGES, DEPTHS[model.depth], strict=True))
    non_local = model.non_local
    non_local = non_local if isinstance(non_local, int | None) else non_local.as_dict()
    return {k: v for k, v in place(non_local, blocks).items() if v}


def test_all_kinetics_recipes_are_there():
    assert {named(path).removeprefix("kinetics400_") for path in KINETICS} == set(
        PUBLISHED
    )


@pytest.mark.parametrize("path", ALL, ids=named)
def test_every_config_loads_and_can_be_written_back(path, tmp_path):
    name, experiment = config.load_experiment([str(path)])
    task = experiment.task
    task.check()
    task.clip.check()
    for data in (task.train_data, task.validation_data):
        data.check()
        assert data.input_path and data.global_batch_size > 0
    assert experiment.trainer.train_steps > 0
    optimization = experiment.trainer.optimizer_config
    assert optimization.rate_scale(task.train_data.global_batch_size) == 1
    rate = build_learning_rate(optimization)
    assert 0 < float(rate(1)) <= 0.1
    assert 0 <= float(rate(experiment.trainer.train_steps)) <= 0.1
    placement(task.model)
    again = tmp_path / "params.yaml"
    again.write_text(config.to_yaml(experiment, name))
    assert config.to_dict(load(again)) == config.to_dict(experiment)


@pytest.mark.parametrize("path", ALL, ids=named)
def test_headers_say_that_the_rates_follow_the_batch(path):
    for size in re.findall(r"Batch B instead of (\d+): the learning", path.read_text()):
        config = load(path).trainer.optimizer_config
        assert config.reference_batch_size == int(size)


@pytest.mark.parametrize("path", ALL, ids=named)
def test_headers_give_the_command_that_runs_them(path):
    header = re.match(r"(#.*\n)+", path.read_text()).group()
    assert f"--config {path.relative_to(CONFIGS.parent)}" in header.replace("\\\n#", "")
    assert "Expected: " in header


@pytest.mark.parametrize("path", KINETICS, ids=named)
def test_kinetics_recipes_are_the_released_ones(path):
    experiment = load(path)
    task, trainer = experiment.task, experiment.trainer
    kind, clip = named(path).removeprefix("kinetics400_").split("_r50_")
    assert (task.model.name, task.model.depth) == (kind.removeprefix("nl_"), 50)
    assert task.model.stem == clip
    assert f"{task.clip.num_frames}x{task.clip.temporal_stride}" == clip
    blocks = {"res3": (1, 3), "res4": (1, 3, 5)} if kind.startswith("nl_") else {}
    assert placement(task.model) == blocks
    assert task.model.dropout_rate == 0.5
    assert task.model.convention == "video_nonlocal_net"
    assert task.clip.mean is task.clip.std is None  # the convention's

    train, test = task.train_data, task.validation_data
    assert (train.min_short_side, train.max_short_side) == (256, 320)
    assert (train.crop_size, train.global_batch_size) == (224, 64)
    assert test.test_protocol == "video_nonlocal_net"
    assert (test.num_test_clips, test.num_test_crops) == (10, 3)
    assert (test.min_short_side, test.crop_size) == (256, 256)

    sgd = trainer.optimizer_config.optimizer.get()
    assert (sgd.momentum, sgd.nesterov, sgd.weight_decay) == (0.9, True, 1e-4)
    rate = build_learning_rate(trainer.optimizer_config)
    assert trainer.train_steps == 400_000
    steps = (0, 149_999, 150_001, 299_999, 300_001, 400_000)
    rates = [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    assert [float(rate(step)) for step in steps] == pytest.approx(rates)


@pytest.mark.parametrize("path", KINETICS, ids=named)
def test_kinetics_headers_quote_the_published_accuracy(path):
    top1, top5 = PUBLISHED[named(path).removeprefix("kinetics400_")]
    assert f"Expected: {top1} % top-1, {top5} % top-5" in path.read_text()


def header_gmacs(path):
    return float(re.search(r"Cost: ([\d.]+) GMAC", path.read_text()).group(1))


def described_gmacs(path):
    from keras_nonlocal import describe
    from keras_nonlocal.models import build

    task = load(path).task
    options = task.model.as_dict()
    name = options.pop("name")
    side = task.train_data.crop_size
    shape = (task.clip.num_frames, side, side, 3)
    options["num_classes"] = 400
    return describe(build(name, input_shape=shape, **options)).gmacs


def test_the_cost_in_a_header_is_what_the_network_costs():
    path = CONFIGS / "kinetics400_nl_i3d_r50_8x8.yaml"
    assert described_gmacs(path) == pytest.approx(header_gmacs(path), abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("path", KINETICS, ids=named)
def test_the_cost_in_every_header_is_what_the_network_costs(path):
    assert described_gmacs(path) == pytest.approx(header_gmacs(path), abs=0.05)


def test_later_configs_and_then_overrides_win(tmp_path):
    mine = tmp_path / "my_paths.yaml"
    mine.write_text(
        "task: {train_data: {input_path: /data/a.csv, global_batch_size: 32}}\n"
    )
    path = CONFIGS / "kinetics400_nl_c2d_r50_8x8.yaml"
    overrides = [
        "task.train_data.global_batch_size=16",
        "trainer.optimizer_config.learning_rate.stepwise.values=[1e-2, 1e-3, 1e-4]",
        "task.model.non_local={res4: [4]}",
    ]
    experiment = load(path, mine, overrides=overrides)
    assert experiment.task.train_data.input_path == "/data/a.csv"
    assert experiment.task.train_data.global_batch_size == 16
    rates = experiment.trainer.optimizer_config.learning_rate.stepwise.values
    assert list(rates) == [0.01, 0.001, 0.0001]
    assert placement(experiment.task.model) == {"res4": (4,)}
    assert experiment.task.validation_data.num_test_clips == 10  # left alone


def test_misspelt_keys_are_refused_with_the_nearest_right_one(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("task: {model: {non_locals: 5}}\n")
    message = r"mine.yaml: `task.model.non_locals`.*Did you mean 'non_local'\?"
    with pytest.raises(UserError, match=message):
        load(CONFIGS / "kinetics400_i3d_r50_8x8.yaml", mine)


def test_charades_recipes_are_the_published_ones():
    paper = load(CONFIGS / "charades_nl_i3d_r101.yaml")
    assert placement(paper.task.model) == {"res3": (1, 3), "res4": (6, 13, 20)}
    assert (
        paper.task.train_data.is_multilabel and paper.task.validation_data.is_multilabel
    )
    rate = build_learning_rate(paper.trainer.optimizer_config)
    assert paper.trainer.train_steps == 200_000
    assert [float(rate(step)) for step in (0, 75_001, 150_001)] == pytest.approx(
        [0.00125, 0.000125, 0.0000125]
    )
    test = paper.task.validation_data
    assert (test.test_protocol, test.num_test_clips) == ("paper", 10)
    assert (test.min_short_side, test.num_test_crops) == (320, 1)
    banks = load(CONFIGS / "charades_nl_i3d_r50.yaml")
    rate = build_learning_rate(banks.trainer.optimizer_config)
    assert banks.trainer.optimizer_config.optimizer.get().weight_decay == 1.25e-5
    assert [float(rate(step)) for step in (0, 20_001)] == pytest.approx([0.02, 0.002])
