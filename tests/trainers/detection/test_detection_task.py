"""The task: its losses, its weights in checkpoints, and what training starts from."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from trainers.core import checkpoint_files, checkpoints, config
from trainers.core.precise_batch_norm import normalizations
from trainers.detection.modes import build_task

SCRIPT = pathlib.Path(__file__).parents[3] / "trainers" / "detection.py"


@pytest.fixture(scope="module")
def task(config_of):
    return build_task(config_of())


@pytest.fixture(scope="module")
def config_of(request):
    path = request.getfixturevalue("config")

    def load(*overrides):
        return config.load_experiment([str(path)], overrides)[1]

    return load


@pytest.fixture(scope="module")
def model(task):
    return task.build_model()


@pytest.fixture(scope="module")
def batch(task):
    return next(iter(task.build_inputs(task.task_config.train_data)))


def gradients(task, model, batch):
    with tf.GradientTape() as tape:
        losses, values = task.forward(batch, model, training=True)
        loss = tf.reduce_mean(losses)
    variables = [variable.value for variable in model.trainable_variables]
    return loss, values, tape.gradient(loss, variables)


def test_a_batch_without_any_object_trains(task, model, batch):
    nothing = {name: tf.zeros_like(batch[name]) for name in ("boxes", "classes")}
    loss, values, found = gradients(task, model, batch | nothing)
    assert np.isfinite(loss) and float(loss) > 0
    for name in ("rpn_box_loss", "box_loss", "mask_loss"):
        assert not values[name].numpy().any()
    assert all(x is not None and np.isfinite(x).all() for x in found)


def test_crowds_are_no_objects(task, model, batch):
    crowds = {"is_crowd": tf.ones_like(batch["is_crowd"])}
    nothing = {"classes": tf.zeros_like(batch["classes"])}
    losses = [task.forward(batch | x, model, True)[0] for x in (crowds, nothing)]
    np.testing.assert_array_equal(*losses)


def test_examples_of_no_weight_do_not_count(task, model, batch):
    first = {name: value[:1] for name, value in batch.items()}
    expected, _ = task.forward(first, model, False)
    weight = tf.constant([1.0, 0.0])
    losses, _ = task.forward(batch | {"weight": weight}, model, False)
    mean = tf.reduce_sum(losses * weight) / tf.reduce_sum(weight)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-5)


def test_a_choice_depends_on_the_sample_alone(task, model, batch):
    (first, _), (again, _) = (task.forward(batch, model, False) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other, _ = task.forward(batch | {"sample": batch["sample"] + 1}, model, False)
    assert not np.array_equal(first, other)


def test_a_model_alone_is_restored_with_every_weight(task, model, tmp_path):
    random = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(random.uniform(0.5, 1.5, variable.shape))
    step = tf.Variable(3, dtype=tf.int64)
    saved = tf.train.Checkpoint(
        global_step=step, model=checkpoints.by_path(model.variables)
    )
    saved.write(str(tmp_path / "ckpt-3"))
    other = task.build_model()
    assert checkpoints.restore_model(other, str(tmp_path / "ckpt-3")) == 3
    expected = {variable.path: variable.numpy() for variable in model.variables}
    assert len(expected) == len(other.variables) > 130
    for variable in other.variables:
        np.testing.assert_array_equal(variable.numpy(), expected[variable.path])


def test_frozen_normalisation_is_left_alone_and_that_of_blocks_is_not(model):
    assert [layer.path for layer in normalizations(model)] == ["res4_0_nonlocal/norm"]
    trained = {variable.path for variable in model.trainable_variables}
    assert "res4_0_nonlocal/norm/gamma" in trained
    assert not any("_bn/" in path for path in trained)


def test_freezing_keeps_the_first_stages(config_of, task, tmp_path):
    frozen = build_task(
        config_of("task.freeze_at=2", f"task.init_checkpoint={tmp_path}")
    ).build_model()
    trained = {variable.path.split("_")[0] for variable in frozen.trainable_variables}
    assert not trained & {"conv1/kernel", "res2"} and "res3" in trained


def test_a_new_block_changes_nothing(config_of, task, tmp_path, capsys):
    old = task.build_model()
    step = tf.Variable(1, dtype=tf.int64)
    variables = checkpoints.by_path(old.variables)
    tf.train.Checkpoint(global_step=step, model=variables).write(
        str(tmp_path / "ckpt-1")
    )
    more = build_task(
        config_of(
            "task.model.non_local={res3: [0], res4: [0]}",
            f"task.init_checkpoint={tmp_path / 'ckpt-1'}",
        )
    )
    new = more.build_model()
    more.initialize(new)
    assert "res3_0_nonlocal" in capsys.readouterr().err
    images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    for ours, theirs in zip(
        new.extract_features(images), old.extract_features(images), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_the_balanced_pyramid_is_trained(config_of):
    model = build_task(config_of("task.model.balanced_pyramid=true")).build_model()
    trained = {x.path for x in model.trainable_variables}
    kernels = {f"bfp_nonlocal/{x}/kernel" for x in ("theta", "phi", "g", "w_z")}
    assert kernels <= trained


@pytest.mark.slow
def test_two_replicas_train_as_one(request, tmp_path):
    path = request.getfixturevalue("config")
    weights = []
    for replicas in (1, 2):
        folder = tmp_path / str(replicas)
        command = [sys.executable, SCRIPT, "--config", path, "--mode", "train"]
        command += ["--model_dir", folder]
        # Statistics of the block's own normalisation are those of a replica.
        options = "task.model.non_local_options={normalization: null}"
        for override in (options, f"runtime.num_cpu_devices={replicas}"):
            command.append(f"--params_override={override}")
        done = subprocess.run(
            command,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        weights.append(dict(checkpoint_files.read(str(folder / "ckpt-2"), "model/")))
    one, two = weights
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-6)
