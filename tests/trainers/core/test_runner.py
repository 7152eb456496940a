"""Training as a whole, on the toy: resuming, stopping, evaluating."""

import json
import re
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.core import toy_task
from trainers.core import checkpoint_files, config, distribution, runner
from trainers.core.errors import Interrupted, UserError
from trainers.core.trainer import NonFiniteError


def make(model_dir, *overrides, train=True):
    _, experiment = config.load_experiment([], overrides, "toy")
    experiment.task.validation_data.is_training = False
    distribution.configure(experiment.runtime)
    strategy = distribution.build_strategy(experiment.runtime)
    task = toy_task.ToyTask(experiment.task)
    return runner.Runner(experiment, task, strategy, model_dir, train=train)


def state(made):
    variables = [*made.trainer.model.variables, *made.trainer.optimizer.variables]
    return {variable.path: variable.numpy() for variable in variables}


def assert_same(one, other):
    assert len(one) == len(other)
    for (path, a), b in zip(one.items(), other.values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=path)


def scalars(folder):
    """(step, tag) -> value, of all event files."""
    found = {}
    for path in folder.glob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found[event.step, value.tag] = float(tf.make_ndarray(value.tensor))
    return found


def latest(folder):
    return checkpoint_files.find(str(folder))


DROPOUT = "task.dropout_rate=0.5"
PARTS = [
    "trainer.gradient_accumulation_steps=2",
    "trainer.recompute_activations=true",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`(folder, state, metrics)` of a run from start to end, with evaluations."""
    folder = tmp_path_factory.mktemp("whole")
    made = make(folder)
    metrics = made.train(evaluate=True)
    return folder, state(made), metrics


@pytest.mark.parametrize("options", [[], pytest.param(PARTS, marks=pytest.mark.slow)])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, options):
    """To the bit: weights, statistics, momentum, dropout seeds, data position."""
    whole = make(tmp_path / "whole", DROPOUT, *options)
    whole.train()
    make(tmp_path / "parts", DROPOUT, "trainer.train_steps=3", *options).train()
    parts = make(tmp_path / "parts", DROPOUT, *options)
    parts.train()
    assert_same(state(whole), state(parts))
    assert int(parts.trainer.global_step) == 6


def test_dropout_and_data_affect_the_comparison(whole, tmp_path):
    """The comparison above could see a difference."""
    dropped = make(tmp_path, DROPOUT)
    dropped.train()
    difference = whole[1]["conv/kernel"] - state(dropped)["conv/kernel"]
    assert np.abs(difference).max() > 1e-4


def test_checkpoints_curves_and_results_are_written(tmp_path):
    made = make(tmp_path, "trainer.max_to_keep=2")
    metrics = made.train(evaluate=True)
    assert sorted(p.name for p in tmp_path.glob("ckpt*.index")) == [
        "ckpt-4.index",
        "ckpt-6.index",
    ]
    results = json.loads((tmp_path / "eval_results.json").read_text())
    assert results.pop("weights").startswith("weights of training")
    assert results == {"step": 6, "in_training": True, **metrics}
    assert metrics["num_examples"] == 10  # rows of weight 0 left out
    train = scalars(tmp_path / "train")
    assert {step for step, _ in train} == {2, 3, 4, 6}
    assert {tag for _, tag in train} == {
        "loss",
        "accuracy",
        "gradient_norm",
        "learning_rate",
        "steps_per_second",
        "input_wait",
    }
    assert train[2, "learning_rate"] == pytest.approx(0.1)
    validation = scalars(tmp_path / "validation")
    assert validation[6, "accuracy"] == pytest.approx(metrics["accuracy"])
    assert {step for step, _ in validation} == {3, 6}


def test_evaluation_restores_and_gives_the_same_again(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    tester = make(tmp_path, train=False)
    assert tester.evaluate(str(tmp_path)) == whole[2]
    limited = make(tmp_path, "trainer.validation_steps=1", train=False)
    assert limited.evaluate(str(tmp_path))["num_examples"] == 4


def test_nan_stops_with_what_to_try_and_keeps_the_checkpoint(tmp_path):
    made = make(tmp_path, "task.nan_step=4")
    with pytest.raises(NonFiniteError) as info:
        made.train()
    assert re.search("loss is nan.*step 5, learning rate 0.1", str(info.value))
    assert str(info.value).endswith(f"The last checkpoint is {tmp_path}/ckpt-4.")
    assert latest(tmp_path).endswith("ckpt-4")
    reader = tf.train.load_checkpoint(latest(tmp_path))
    for name in reader.get_variable_to_shape_map():
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH":
            assert np.isfinite(reader.get_tensor(name)).all()


def test_nan_before_the_first_checkpoint_claims_none(tmp_path):
    with pytest.raises(NonFiniteError, match="None was saved."):
        make(tmp_path, "task.nan_step=0").train()
    assert checkpoint_files.prefixes(str(tmp_path)) == []


LONG_LOOPS = [f"trainer.{x}=6" for x in ("steps_per_loop", "checkpoint_interval")]


def test_nan_within_a_loop_names_its_step(tmp_path):
    with pytest.raises(NonFiniteError, match="(?s)at step 3, .*None was saved."):
        make(tmp_path, "task.nan_step=2", *LONG_LOOPS).train()


def test_nothing_is_saved_after_a_signal_if_a_step_before_it_was_nan(tmp_path):
    made = make(tmp_path, "task.nan_step=1", *LONG_LOOPS)

    def stop_after_3(bar):
        if made.step == 3:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.ProgressBar, "advance", stop_after_3)
        with pytest.raises(NonFiniteError, match="at step 2,"):
            made.train()
    assert made.step == 3
    assert checkpoint_files.prefixes(str(tmp_path)) == []


def test_results_are_read_at_the_end_of_a_loop(tmp_path):
    made = make(tmp_path)
    calls = []
    with made._strategy.scope():
        made.trainer.on_step = lambda: calls.append("step")
        made.trainer.on_results = lambda **values: calls.append(values)
        logs = made.trainer.train(tf.constant(3))
    assert calls[:3] == ["step"] * 3
    (values,) = calls[3:]
    assert values["loss"] == logs["loss"]
    assert values["lr"] == pytest.approx(0.1)
    assert 0 <= values["input_wait"] <= 1


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_finishes_the_step_saves_and_can_resume(
    whole, tmp_path, signum, monkeypatch, capfd
):
    stopped = make(tmp_path / "stopped")
    handler = signal.getsignal(signum)

    def advance(bar):
        if int(stopped.trainer.global_step) == 3:
            signal.raise_signal(signum)

    monkeypatch.setattr(runner.ProgressBar, "advance", advance)
    with pytest.raises(Interrupted):
        stopped.train()
    assert signal.getsignal(signum) is handler
    errors = capfd.readouterr().err
    assert "Stopping after this step." in errors and "Saved step 3." in errors
    assert ("Press Ctrl-C again to force it." in errors) == (signum == signal.SIGINT)
    assert latest(tmp_path / "stopped").endswith("ckpt-3")
    monkeypatch.undo()
    resumed = make(tmp_path / "stopped")
    resumed.train()
    assert_same(whole[1], state(resumed))


@pytest.mark.parametrize("error", [Interrupted(15), MemoryError()])
def test_an_interrupted_evaluation_is_repeated(whole, tmp_path, error):
    cut = make(tmp_path)
    cut.trainer.evaluate = lambda steps: (_ for _ in ()).throw(error)
    with pytest.raises(type(error)):
        cut.train(evaluate=True)
    assert latest(tmp_path).endswith("ckpt-3")
    resumed = make(tmp_path)
    assert resumed.train(evaluate=True) == whole[2]
    assert {step for step, _ in scalars(tmp_path / "validation")} == {3, 6}
    assert_same(whole[1], state(resumed))
    one, other = (
        json.loads((folder / "best" / "info.json").read_text())
        for folder in (whole[0], tmp_path)
    )
    assert one == other


def test_a_kill_after_the_evaluation_does_not_lose_the_best(tmp_path):
    """Its results had been written, the best checkpoint had not."""
    steps = "trainer.train_steps=3"
    make(tmp_path, steps).train(evaluate=True)
    shutil.rmtree(tmp_path / "best")
    results = json.loads((tmp_path / "eval_results.json").read_text())
    resumed = make(tmp_path, steps)
    resumed.trainer.evaluate = None  # not to be called
    metrics = resumed.train(evaluate=True)
    assert results.pop("weights").startswith("weights of training")
    assert {"step": 3, "in_training": True, **metrics} == results
    assert results.pop("in_training")
    assert json.loads((tmp_path / "best" / "info.json").read_text()) == results
    assert latest(tmp_path / "best").endswith("best-3")


def test_results_of_mode_eval_are_not_used_by_training(tmp_path):
    """It may have been on other views."""
    steps = "trainer.train_steps=3"
    trained = make(tmp_path, steps)
    trained.train()
    make(tmp_path, steps, train=False).evaluate(latest(tmp_path))
    resumed = make(tmp_path, steps)
    calls = []
    evaluate = resumed.trainer.evaluate
    resumed.trainer.evaluate = lambda steps: calls.append(1) or evaluate(steps)
    resumed.train(evaluate=True)
    assert calls == [1]


def test_a_finished_run_trains_no_further(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    again = make(tmp_path)
    again.trainer.train = None  # not to be called
    assert again.train() == {}


def test_another_optimizer_does_not_resume_silently(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    other = make(tmp_path, "trainer.optimizer_config.optimizer.sgd.momentum=0.0")
    with pytest.raises(UserError, match="momentum: not in the model"):
        other.train()


def test_training_checks_its_config_before_anything_else(tmp_path):
    with pytest.raises(UserError, match="trainer.train_steps must be positive"):
        make(tmp_path, "trainer.train_steps=0").train()
    assert list(tmp_path.iterdir()) == []


def test_the_best_is_the_one_with_the_lowest_loss(tmp_path):
    made = make(tmp_path, "trainer.best_checkpoint_eval_metric=loss")
    losses = iter([0.5, 0.75])
    made.trainer.evaluate = lambda steps: {"loss": next(losses)}
    made.train(evaluate=True)
    assert latest(tmp_path / "best").endswith("best-3")


def test_evaluating_no_batches_is_refused(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    with pytest.raises(UserError, match="trainer.validation_steps .* Received: 0"):
        make(tmp_path, "trainer.validation_steps=0", train=False).evaluate(
            str(tmp_path)
        )


def test_evaluations_use_the_inference_model_and_bring_it_up_to_date(
    tmp_path, monkeypatch
):
    given = []

    def always_0(task, model, previous=None):
        given.append(previous)
        if previous is None:
            previous = keras.models.clone_model(model)
            previous.get_layer("pred").bias.assign([100, 0, 0])
        return previous

    monkeypatch.setattr(toy_task.ToyTask, "inference_model", always_0)
    metrics = make(tmp_path).train(evaluate=True)
    _, labels = toy_task.make_batch(999, 12)
    assert metrics["accuracy"] == pytest.approx(np.mean(labels[:10] == 0))
    first, second = given
    assert first is None and second is not None
