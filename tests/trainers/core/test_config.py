"""Factory, then YAML files, then overrides; mistakes found before anything runs."""

import dataclasses
import re
import typing

import pytest
import yaml
from official.core import config_definitions as model_garden
from official.modeling import hyperparams

from tests.trainers.core import toy_task  # noqa: F401 (registers the experiment)
from trainers.core import config
from trainers.core.errors import UserError


def write(path, text):
    path.write_text(text)
    return str(path)


def test_later_layers_win(tmp_path):
    one = write(tmp_path / "a.yaml", "experiment: toy\ntrainer: {train_steps: 7}")
    two = write(tmp_path / "b.yaml", "trainer: {train_steps: 8, max_to_keep: 9}")
    name, loaded = config.load_experiment([one, two], ["trainer.max_to_keep=2"])
    assert name == "toy"
    assert (loaded.trainer.train_steps, loaded.trainer.max_to_keep) == (8, 2)
    assert loaded.trainer.steps_per_loop == 2  # the factory's


def test_numbers_of_both_kinds_fit_a_float_field():
    path = "trainer.optimizer_config.learning_rate.constant.learning_rate"
    for text, value in (("1e-4", 1e-4), ("1", 1.0)):
        _, loaded = config.load_experiment([], [f"{path}={text}"], "toy")
        rate = loaded.trainer.optimizer_config.learning_rate.constant.learning_rate
        assert rate == value
        assert type(rate) is float


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "trainer.trian_steps=3",
            "`trainer.trian_steps` .*TrainerConfig.*'train_steps'",
        ),
        ("trianer.train_steps=3", "`trianer` .*Did you mean 'trainer'"),
        ("trainer.train_steps=many", "must be of type int. Received: 'many'"),
        ("trainer.train_steps=1.5", "must be of type int"),
        ("trainer.train_steps=true", "must be of type int. Received: True"),
        ("runtime.deterministic=1", "must be of type bool"),
        ("runtime.tpu=3", r"must be of type str \| null. Received: 3"),
        ("trainer=3", "`trainer` is a group .* such as trainer.train_steps=3"),
        (
            "trainer.optimizer_config.ema=0.9",
            "ema` is a group of settings: average_decay. Set them one by one, such as "
            "trainer.optimizer_config.ema.average_decay=0.9. Received: 0.9",
        ),
        (
            "trainer.optimizer_config.optimizer=adamw",
            "such as trainer.optimizer_config.optimizer.type=adamw. Received: 'adamw'",
        ),
        ("trainer.precise_batch_norm=true", "precise_batch_norm.num_batches=VALUE"),
        ("trainer.train_steps={a: 1}", "must be of type int"),
        ("trainer.train_steps", "expected a.b.c=value"),
        ("trainer..train_steps=1", "expected a.b.c=value"),
        ("trainer.train_steps=[", "not valid YAML"),
        (
            "trainer.optimizer_config.optimizer.type=sdg",
            "type` is 'sdg'. Did you mean 'sgd'",
        ),
    ],
)
def test_a_mistake_names_the_key_and_the_fix(override, message):
    with pytest.raises(UserError, match=message):
        config.load_experiment([], [override], "toy")


OPTIMIZER = "trainer.optimizer_config"


def test_null_is_no_warm_up():
    for override in (f"{OPTIMIZER}.warmup=null", f"{OPTIMIZER}.warmup.type=null"):
        overrides = [f"{OPTIMIZER}.warmup.type=linear", override]
        _, loaded = config.load_experiment([], overrides, "toy")
        assert loaded.trainer.optimizer_config.warmup.type is None
        assert loaded.trainer.optimizer_config.warmup.linear is not None


def test_a_wrong_warm_up_says_how_to_have_none():
    message = "warmup.type` is 'None'. Expected one of: linear, polynomial; or null for"
    with pytest.raises(UserError, match=message):
        config.load_experiment([], [f"{OPTIMIZER}.warmup.type=None"], "toy")


def float_fields(part, prefix=""):
    """Paths of all fields that take a float."""
    for name, hint in part._get_annotations().items():
        value = getattr(part, name)
        if isinstance(value, hyperparams.Config):
            yield from float_fields(value, f"{prefix}{name}.")
        elif float in (hint, *typing.get_args(hint)):
            yield f"{prefix}{name}"


def test_no_float_may_be_nan_or_infinite():
    _, loaded = config.load_experiment([], [], "toy")
    names = list(float_fields(loaded))
    assert len(names) > 15 and "runtime.loss_scale" in names
    for name in names:
        for text, shown in ((".nan", "nan"), (".inf", "inf"), ("-.inf", "-inf")):
            message = f"`{name}` must be a finite number. Received: {shown}"
            with pytest.raises(UserError, match=re.escape(message)):
                config.load_experiment([], [f"{name}={text}"], "toy")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"{OPTIMIZER}.learning_rate.stepwise.values=[0.1, .nan]", "values` must be a"),
        ("runtime.seed=9223372036854775808", "`runtime.seed` is too large"),
        (f"runtime.loss_scale=1{400 * '0'}", "`runtime.loss_scale` is too large"),
    ],
)
def test_numbers_that_nothing_can_compute_with_are_refused(override, message):
    with pytest.raises(UserError, match=message):
        config.load_experiment([], [override], "toy")


def test_a_mistake_in_a_file_names_the_file(tmp_path):
    path = write(tmp_path / "a.yaml", "experiment: toy\ntask: {dropout: 0.1}")
    with pytest.raises(UserError, match=r"a\.yaml: `task\.dropout` .*'dropout_rate'"):
        config.load_experiment([path])


def test_an_unknown_experiment_names_the_nearest():
    with pytest.raises(UserError, match="Unknown experiment 'toi'. Did you mean 'toy'"):
        config.load_experiment([], [], "toi")


def test_an_experiment_is_a_name(tmp_path):
    path = write(tmp_path / "a.yaml", "experiment: {name: toy}")
    with pytest.raises(UserError, match="`experiment` must be a name"):
        config.load_experiment([path])


def test_no_experiment_and_two_experiments_are_refused(tmp_path):
    with pytest.raises(UserError, match="No experiment is named"):
        config.load_experiment()
    files = [
        write(tmp_path / f"{name}.yaml", f"experiment: {name}") for name in ("toy", "b")
    ]
    with pytest.raises(UserError, match="different experiments"):
        config.load_experiment(files)


def test_params_yaml_reads_back_as_the_same_config(tmp_path):
    overrides = [
        "trainer.optimizer_config.warmup.type=linear",
        "task.dropout_rate=0.25",
    ]
    name, loaded = config.load_experiment([], overrides, "toy")
    config.save_params(loaded, name, tmp_path)
    again = config.load_experiment([tmp_path / "params.yaml"])
    assert again[0] == "toy"
    assert config.to_dict(again[1]) == config.to_dict(loaded)
    assert yaml.safe_load((tmp_path / "params.yaml").read_text())["task"][
        "dropout_rate"
    ] == pytest.approx(0.25)


def test_differences_name_what_changed(tmp_path):
    name, loaded = config.load_experiment([], [], "toy")
    assert config.differences(loaded, name, tmp_path) == []
    config.save_params(loaded, name, tmp_path)
    assert config.differences(loaded, name, tmp_path) == []
    _, changed = config.load_experiment([], ["trainer.train_steps=99"], "toy")
    changed.runtime.distribution_strategy = "multi_worker_mirrored"  # other machines
    assert config.differences(changed, name, tmp_path) == [
        "trainer.train_steps: 6 -> 99"
    ]


def test_several_overrides_may_be_one_as_in_the_model_garden():
    overrides = ["trainer.train_steps=4,trainer.validation_interval=2,runtime.seed=7"]
    _, loaded = config.load_experiment([], overrides, "toy")
    assert loaded.trainer.train_steps == 4
    assert loaded.trainer.validation_interval == 2
    assert loaded.runtime.seed == 7


def test_a_text_can_be_emptied():
    overrides = ["task.init_checkpoint=x", "task.init_checkpoint="]
    _, loaded = config.load_experiment([], overrides, "toy")
    assert loaded.task.init_checkpoint == ""


@pytest.mark.parametrize(
    ("prefix", "counterpart"),
    [
        ("task", model_garden.TaskConfig),
        ("task.train_data", model_garden.DataConfig),
        ("trainer", model_garden.TrainerConfig),
        ("runtime", model_garden.RuntimeConfig),
    ],
)
def test_unused_fields_of_the_model_garden_are_explained(prefix, counterpart):
    _, loaded = config.load_experiment([], [], "toy")
    part = loaded
    for name in prefix.split("."):
        part = getattr(part, name)
    fields = {field.name for field in dataclasses.fields(counterpart)} - {"model"}
    unused = fields - {field.name for field in dataclasses.fields(part)}
    assert unused
    for name in unused:
        message = (
            rf"`{prefix}\.{name}` is a field of the Model Garden that has no effect"
        )
        with pytest.raises(UserError, match=message):
            config.load_experiment([], [f"{prefix}.{name}=1"], "toy")


@pytest.mark.parametrize(
    ("key", "replacement"),
    [
        ("task.train_data.tfds_name", "Data are read from `input_path`."),
        ("task.train_data.drop_remainder", "evaluation covers the whole set"),
        ("trainer.summary_interval", "a point every `steps_per_loop` steps"),
        ("trainer.optimizer_config.optimizer.sgd.clipnorm", "Use `global_clipnorm`."),
    ],
)
def test_what_replaces_an_unused_field_is_named(key, replacement):
    with pytest.raises(UserError, match=f"leave it out. .*{replacement}"):
        config.load_experiment([], [f"{key}=1"], "toy")
