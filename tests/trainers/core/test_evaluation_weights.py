"""Weights for evaluation: averages, statistics; training never sees them."""

import json
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal.layers import BatchNormalization
from tests.trainers.core import toy_task
from tests.trainers.core.test_runner import assert_same, make, state
from trainers.core import checkpoint_files, checkpoints, precise_batch_norm
from trainers.core.errors import Interrupted, UserError

DECAY = "trainer.optimizer_config.ema.average_decay=0.75"
PRECISE = "trainer.precise_batch_norm.num_batches=3"
BOTH = [DECAY, PRECISE, "task.dropout_rate=0.5"]


def weights(made):
    return {v.path: v.numpy() for v in made.trainer.model.trainable_variables}


def averages(made):
    return {path: x.numpy() for path, x in made._weights._averages.items()}


def evaluated(made):
    """All weights of the model, as evaluations use them."""
    with made._weights.in_use():
        return {v.path: v.numpy() for v in made.trainer.model.variables}


def assert_read(prefix, expected):
    """The model in a checkpoint has these weights."""
    read = checkpoints.read_model(prefix)
    for path, value in read.items():
        if "seed_generator" not in path:
            np.testing.assert_array_equal(value, expected[path], err_msg=path)


# === Averages ===


@pytest.mark.parametrize(("optimizer", "skipped"), [("sgd", ()), ("adamw", (0, 2))])
def test_averages_equal_those_of_float64(tmp_path, optimizer, skipped):
    """Steps that loss scaling skips do not count, not even the first."""
    options = [DECAY, f"trainer.optimizer_config.optimizer.type={optimizer}"]
    if skipped:
        options += ["runtime.mixed_precision_dtype=float16", "runtime.loss_scale=1e30"]
        options += ["task.batch_norm=false"]
    made = make(tmp_path, *options)
    with made._strategy.scope():
        expected = None
        for step in range(5):
            if skipped:
                scale = 1e30 if step in skipped else 1.0
                made.trainer.optimizer.dynamic_scale.assign(scale)
            made.trainer.train(tf.constant(1))
            now = {path: np.float64(value) for path, value in weights(made).items()}
            if step not in skipped:
                expected = (
                    now
                    if expected is None
                    else {p: 0.75 * expected[p] + 0.25 * now[p] for p in now}
                )
    for path, value in averages(made).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-5, atol=1e-7)
    difference = averages(made)["pred/kernel"] - weights(made)["pred/kernel"]
    assert np.abs(difference).max() > 1e-4


def test_before_the_first_step_averages_are_the_weights(tmp_path):
    made = make(tmp_path, DECAY, "trainer.train_steps=1")
    made.trainer.train = lambda steps: made.trainer.global_step.assign_add(1) and {}
    made.train()
    assert_same(averages(made), weights(made))


# === Statistics ===


class SeveralNorms(toy_task.ToyTask):
    """Two batch normalisations that move and one that is frozen."""

    def build_model(self):
        layers = [
            keras.Input((3, 3, 3, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(5, name="a", bias_initializer="ones"),
            BatchNormalization(name="bn_a"),
            keras.layers.Activation("tanh"),
            keras.layers.Dense(4, name="b"),
            keras.layers.BatchNormalization(name="frozen", trainable=False),
            keras.layers.Dense(4, name="c"),
            keras.layers.BatchNormalization(name="bn_c", epsilon=1e-5),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3, name="pred"),
        ]
        return keras.Sequential(layers)


def inputs_of(step, size=4):
    x, y = toy_task.make_batch(step, size)
    x = tf.constant(x + 100)  # means that are large, beside the deviations
    ones = tf.ones(size)
    return {"x": x, "y": tf.constant(y), "weight": ones, "step": tf.fill([size], step)}


def in_float64(model, batches):
    """Statistics of `SeveralNorms`, by their definition."""
    paths = ["/".join(v.path.split("/")[-2:]) for v in model.variables]
    values = [np.float64(v.numpy()) for v in model.variables]
    value = dict(zip(paths, values, strict=True))
    outputs = {"bn_a": [], "bn_c": []}

    def dense(x, name):
        return x @ value[f"{name}/kernel"] + value[f"{name}/bias"]

    def by_batch(x, name):
        outputs[name].append(x)
        normalized = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        return normalized * value[f"{name}/gamma"] + value[f"{name}/beta"]

    for batch in batches:
        x = np.float64(batch["x"]).reshape(len(batch["x"]), -1)
        x = np.tanh(by_batch(dense(x, "a"), "bn_a"))
        x = dense(x, "b") / np.sqrt(1 + 1e-3)  # frozen: mean 0, variance 1
        by_batch(dense(x, "c"), "bn_c")
    return {name: np.concatenate(x) for name, x in outputs.items()}


def test_statistics_are_those_of_all_batches_together():
    keras.utils.set_random_seed(0)
    task = SeveralNorms(toy_task.ToyTaskConfig())
    model = task.build_model()
    before = [v.numpy() for v in model.variables]
    batches = [inputs_of(step) for step in range(5)]
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        precise = precise_batch_norm.PreciseBatchNorm(task, model)
        found = precise.compute(batches, lambda: None)
    assert len(found) == 4
    for name, x in in_float64(model, batches).items():
        layer = model.get_layer(name)
        mean, variance = (
            found[v.path] for v in (layer.moving_mean, layer.moving_variance)
        )
        np.testing.assert_allclose(mean, x.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variance, x.var(0), rtol=1e-3)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy(), err_msg=variable.path)
    assert model.get_layer("bn_a").momentum == 0.9


def test_without_data_statistics_are_refused():
    task = SeveralNorms(toy_task.ToyTaskConfig())
    precise = precise_batch_norm.PreciseBatchNorm(task, task.build_model())
    with pytest.raises(UserError, match="There are no training data"):
        precise.compute([], None)


@pytest.mark.slow
def test_statistics_depend_on_weights_and_step_alone(tmp_path):
    made = make(tmp_path / "a", *BOTH)
    made.train()
    model, first = made.trainer.model, evaluated(made)
    for variable in model.variables:
        if "moving" in variable.path:
            variable.assign(variable + 1.0)
    made._weights._step = None
    with made._strategy.scope():
        made._weights.prepare(6)
    assert_same(first, evaluated(made))
    with made._strategy.scope():
        made._weights.prepare(7)
    assert np.abs(evaluated(made)["bn/moving_mean"] - first["bn/moving_mean"]).max() > 0


def test_frozen_statistics_are_used_as_they_are(tmp_path):
    made = make(tmp_path, PRECISE)
    made.trainer.model.get_layer("bn").trainable = False
    with made._strategy.scope():
        weights_ = made._build_weights()
    assert weights_.num_batches == 0
    assert "moving statistics" in weights_.description


# === Training ===


def test_evaluations_do_not_change_training(tmp_path):
    """To the bit: also after evaluations, and beside a run without averages."""
    plain = make(tmp_path / "plain", "task.dropout_rate=0.5")
    plain.train()
    with_both = make(tmp_path / "both", *BOTH, "trainer.validation_interval=1")
    with_both.train(evaluate=True)
    found = {k: v for k, v in state(with_both).items() if "_average" not in k}
    assert_same(state(plain), found)
    difference = evaluated(with_both)["conv/kernel"] - found["conv/kernel"]
    assert np.abs(difference).max() > 1e-4


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole = make(tmp_path / "whole", *BOTH)
    metrics = whole.train(evaluate=True)
    make(tmp_path / "parts", *BOTH, "trainer.train_steps=4").train(evaluate=True)
    parts = make(tmp_path / "parts", *BOTH)
    assert parts.train(evaluate=True) == metrics
    assert_same(state(whole), state(parts))
    assert_same(evaluated(whole), evaluated(parts))


@pytest.mark.slow
def test_a_stop_while_statistics_are_computed_loses_nothing(tmp_path):
    whole = make(tmp_path / "whole", *BOTH)
    metrics = whole.train(evaluate=True)
    cut = make(tmp_path / "cut", *BOTH)
    prepare = cut._weights.prepare

    def stopped(step, on_batch):
        signal.raise_signal(signal.SIGTERM)
        prepare(step, on_batch)

    cut._weights.prepare = stopped
    with pytest.raises(Interrupted):
        cut.train(evaluate=True)
    assert [p.name for p in (tmp_path / "cut").glob("ckpt-3*.index")] == [
        "ckpt-3.index"
    ]
    resumed = make(tmp_path / "cut", *BOTH)
    assert resumed.train(evaluate=True) == metrics
    assert_same(state(whole), state(resumed))


# === Checkpoints ===


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    made = make(folder, *BOTH)
    metrics = made.train(evaluate=True)
    return folder, metrics, evaluated(made)


WORDS = "averaged weights, precise statistics of batch normalisation"


def test_checkpoints_hold_what_was_evaluated(trained):
    folder, metrics, expected = trained
    prefix = str(folder / "ckpt-6")
    assert_read(prefix, expected)
    assert checkpoints.describe_weights(prefix) == WORDS
    results = json.loads((folder / "eval_results.json").read_text())
    assert results.pop("weights") == WORDS
    tester = make(folder, *BOTH, train=False)
    assert tester.evaluate(prefix) == metrics
    assert json.loads((folder / "eval_results.json").read_text())["weights"] == WORDS


def test_the_best_holds_what_was_evaluated(trained):
    folder, *_ = trained
    (best,) = checkpoint_files.prefixes(str(folder / "best"))
    info = json.loads((folder / "best" / "info.json").read_text())
    assert checkpoints.describe_weights(best) == WORDS
    metrics = make(folder, *BOTH, train=False).evaluate(best)
    assert {k: info[k] for k in metrics} == metrics


def test_a_checkpoint_between_evaluations_has_no_statistics(trained):
    folder, *_ = trained
    words = "averaged weights, moving statistics of batch normalisation"
    assert checkpoints.describe_weights(str(folder / "ckpt-4")) == words


@pytest.mark.slow
def test_the_last_checkpoint_of_a_training_without_evaluations_has_statistics(
    trained, tmp_path
):
    make(tmp_path, *BOTH).train()
    assert_read(str(tmp_path / "ckpt-6"), trained[2])
    assert not checkpoints.read_statistics(str(tmp_path / "ckpt-4"))


@pytest.mark.slow
def test_a_checkpoint_of_plain_weights_says_so(tmp_path):
    make(tmp_path).train()
    words = "weights of training, moving statistics of batch normalisation"
    assert checkpoints.describe_weights(str(tmp_path)) == words


@pytest.mark.slow
def test_statistics_are_removed_with_their_checkpoint(tmp_path):
    every = [f"trainer.{x}_interval=1" for x in ("validation", "checkpoint")]
    make(tmp_path, *BOTH, *every, "trainer.max_to_keep=1").train(evaluate=True)
    assert sorted(p.name for p in tmp_path.glob("ckpt*.index")) == [
        "ckpt-6.index",
        "ckpt-6.statistics.index",
    ]


@pytest.mark.slow
def test_statistics_of_another_run_or_without_a_checkpoint_are_removed(tmp_path):
    make(tmp_path, *BOTH).train(evaluate=True)
    for path in tmp_path.glob("ckpt-[346].*"):
        if "statistics" not in path.name or "ckpt-4" in path.name:
            path.unlink()
    made = make(tmp_path, "trainer.best_checkpoint_export_subdir=", DECAY)
    made.train()
    assert not checkpoints.read_statistics(str(tmp_path / "ckpt-6"))
    assert list(tmp_path.glob("*.statistics.*")) == []


@pytest.mark.slow
def test_damaged_statistics_are_computed_again(tmp_path, capsys):
    first = make(tmp_path, *BOTH)
    first.train(evaluate=True)
    path = tmp_path / "ckpt-6.statistics.index"
    path.write_bytes(path.read_bytes()[:20])
    again = make(tmp_path, *BOTH)
    again.train(evaluate=True)
    assert "ckpt-6.statistics" in capsys.readouterr().err
    assert_same(evaluated(first), evaluated(again))
    assert_read(str(tmp_path / "ckpt-6"), evaluated(again))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "trainer.optimizer_config.ema.average_decay=1.0",
            r"ema.average_decay must be in \[0, 1\).*Received: 1.0",
        ),
        (
            "trainer.precise_batch_norm.num_batches=-1",
            "precise_batch_norm.num_batches must be positive.*Received: -1",
        ),
    ],
)
def test_settings_out_of_range_are_named(tmp_path, option, message):
    with pytest.raises(UserError, match=message):
        make(tmp_path, option)
