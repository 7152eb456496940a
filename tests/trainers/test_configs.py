"""The recipes in `configs/`: each loads, and matches its header."""

import functools
import re

import pytest

from keras_nonlocal.models.placement import STAGES, place
from keras_nonlocal.models.resnet import DEPTHS
from tests.trainers.recipes import CONFIGS, commands, flag, named, of_script
from tests.trainers.video_recipes import ALL
from trainers.core import config
from trainers.core.errors import UserError
from trainers.core.schedules import build_learning_rate
from trainers.video_classification import experiments  # noqa: F401 (registers)

EVERY = sorted(CONFIGS.rglob("*.yaml"))
KINETICS = sorted((CONFIGS / "kinetics400").glob("*.yaml"))


def load(path, *more, overrides=()):
    """An experiment, which is not to be changed: several tests read it."""
    return _load((str(path), *map(str, more)), tuple(overrides))


@functools.cache
def _load(files, overrides):
    return config.load_experiment(files, overrides)[1]


def placement(model):
    blocks = dict(zip(STAGES, DEPTHS[model.depth], strict=True))
    non_local = model.non_local
    non_local = non_local if isinstance(non_local, int | None) else non_local.as_dict()
    return {k: v for k, v in place(non_local, blocks).items() if v}


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
def test_the_commands_in_headers_can_be_run(path):
    from trainers.video_classification.modes import MODES

    assert "Expected: " in path.read_text()
    found = [x for x in commands(path) if x[1] == "trainers/video.py"]
    assert flag(found[0], "mode") == ["train_and_eval"]
    assert flag(found[0], "config") == [str(path.relative_to(CONFIGS.parent))]
    for command in found:
        assert flag(command, "mode")[0] in MODES
        assert flag(command, "model_dir") == flag(found[0], "model_dir")
        load(path, overrides=flag(command, "params_override")).task.check()


@pytest.mark.parametrize("path", ALL, ids=named)
def test_what_a_recipe_starts_from_is_another_recipe_or_is_named(path):
    start = load(path).task.init_checkpoint
    earlier = CONFIGS / f"{start.removeprefix('runs/')}.yaml"
    if start.startswith("runs/") and earlier.exists():
        model, before = load(path).task.model, load(earlier).task.model
        shared = ("name", "depth", "stem", "convention", "width")
        assert [model.as_dict()[x] for x in shared] == [
            before.as_dict()[x] for x in shared
        ]
        assert flag(commands(earlier)[0], "model_dir") == [start]
    elif start:
        described = (CONFIGS / "README.md").read_text() + path.read_text()
        assert described.count(start) > path.read_text().count(
            f"init_checkpoint: {start}"
        )


def test_every_recipe_is_run_by_one_script():
    assert sorted([*ALL, *of_script("detection.py")]) == EVERY


def test_the_index_lists_every_recipe():
    text = (CONFIGS / "README.md").read_text()
    links = re.findall(r"\]\(([\w/]+\.yaml)\)", text)
    assert set(links) == {f"{named(path)}.yaml" for path in EVERY}
    assert all(
        f"[`{x.removesuffix('.yaml').split('/')[-1]}`]({x})" in text for x in links
    )


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
    path = CONFIGS / "kinetics400/nl_i3d_r50_8x8.yaml"
    assert described_gmacs(path) == pytest.approx(header_gmacs(path), abs=0.05)


@pytest.mark.recipes
@pytest.mark.parametrize("path", KINETICS, ids=named)
def test_the_cost_in_every_header_is_what_the_network_costs(path):
    assert described_gmacs(path) == pytest.approx(header_gmacs(path), abs=0.05)


def test_later_configs_and_then_overrides_win(tmp_path):
    mine = tmp_path / "my_paths.yaml"
    mine.write_text(
        "task: {train_data: {input_path: /data/a.csv, global_batch_size: 32}}\n"
    )
    path = CONFIGS / "kinetics400/nl_c2d_r50_8x8.yaml"
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
        load(CONFIGS / "kinetics400/i3d_r50_8x8.yaml", mine)
