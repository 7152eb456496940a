"""Checkpoints have the complete state; those of other models are refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal.models import C2D
from tests.trainers.core import toy_task
from trainers.core import checkpoints
from trainers.core.errors import UserError


@pytest.fixture
def model():
    return toy_task.ToyTask(toy_task.ToyTaskConfig(dropout_rate=0.5)).build_model()


def built_optimizer(model):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, name="optimizer")
    optimizer.build(model.trainable_variables)
    return optimizer


def randomize(variables):
    random = np.random.default_rng(0)
    for variable in variables:
        values = random.integers(1, 100, variable.shape)
        variable.assign(values.astype(variable.dtype))


def save(model, optimizer, directory, step=7):
    global_step = tf.Variable(step, dtype=tf.int64)
    checkpoint = checkpoints.training_checkpoint(global_step, model, optimizer)
    return checkpoint.write(str(directory / f"ckpt-{step}"))


def test_everything_is_restored(model, tmp_path):
    """Layers in a list, statistics, dropout seeds, momentum: no auto-names."""
    optimizer = built_optimizer(model)
    saved = [*model.variables, *optimizer.variables]
    randomize(saved)
    state = [v.numpy() for v in saved]
    prefix = save(model, optimizer, tmp_path)
    other = toy_task.ToyTask(toy_task.ToyTaskConfig(dropout_rate=0.5)).build_model()
    other_optimizer = built_optimizer(other)
    step = tf.Variable(0, dtype=tf.int64)
    checkpoints.restore_training(step, other, other_optimizer, prefix)
    assert int(step) == 7
    restored = [*other.variables, *other_optimizer.variables]
    paths = [variable.path for variable in restored]
    assert any("listed/part1" in path for path in paths)
    assert any("seed_generator" in path for path in paths)
    assert any("momentum" in path for path in paths)
    for old, variable in zip(state, restored, strict=True):
        np.testing.assert_array_equal(old, variable.numpy(), err_msg=variable.path)


def test_a_model_is_restored_without_its_optimizer(model, tmp_path):
    randomize(model.variables)
    prefix = save(model, built_optimizer(model), tmp_path)
    other = toy_task.ToyTask(toy_task.ToyTaskConfig(dropout_rate=0.5)).build_model()
    assert checkpoints.restore_model(other, prefix) == 7
    for old, new in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy())


def network(num_classes=3, **options):
    options = {"width": 4, "dropout_rate": 0.5} | options
    return C2D(14, num_classes, (4, 32, 32, 3), **options)


def save_keras(model, path):
    model.save(path) if path.suffix == ".keras" else model.save_weights(path)
    return str(path)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_keras_files_restore_a_network(tmp_path, suffix):
    trained, other = network(), network()
    weights = [*trained.trainable_variables, *trained.non_trainable_variables]
    randomize(v for v in weights if "seed_generator" not in v.path)
    checkpoints.restore_model(other, save_keras(trained, tmp_path / f"model{suffix}"))
    for old, new in zip(trained.weights, other.weights, strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy(), new.path)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_classes": 5}, "need num_classes=3\\nBuild the model with the config"),
        ({"non_local": {"res3": [0]}}, "is of another model: .*res3_0_nonlocal"),
    ],
)
def test_keras_files_of_another_network_are_refused(tmp_path, suffix, options, message):
    path = save_keras(network(), tmp_path / f"model{suffix}")
    other = network(**options)
    with pytest.raises(UserError, match=f"(?s)model{suffix}.*{message}"):
        checkpoints.restore_model(other, path)


def test_no_code_in_a_keras_file_is_run(tmp_path, monkeypatch):
    """A Lambda holds code, which Keras may be set to run."""
    trained = network()
    canary = tmp_path / "canary"
    monkeypatch.chdir(tmp_path)

    path = tmp_path / "model.keras"
    touch = keras.layers.Lambda(lambda x: (open("canary", "w").close(), x)[1])
    keras.Model(trained.input, touch(trained.output)).save(path)
    canary.unlink()
    checkpoints.restore_model(network(), str(path))
    assert not canary.exists()
    keras.models.load_model(path, safe_mode=False)
    assert canary.exists()  # else this proves nothing


def test_another_model_is_refused_by_variable_and_shape(model, tmp_path):
    prefix = save(model, built_optimizer(model), tmp_path)
    inputs = keras.Input((3, 3, 3, 2))
    x = keras.layers.Conv3D(5, 2, name="conv")(inputs)
    other = keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(x))
    before = [v.numpy() for v in other.variables]
    with pytest.raises(UserError) as caught:
        checkpoints.restore_model(other, prefix)
    message = str(caught.value)
    assert "conv/kernel: (2, 2, 2, 2, 4) in the checkpoint, (2, 2, 2, 2, 5)" in message
    assert "bn/gamma: not in the model" in message
    for old, new in zip(before, other.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_a_checkpoint_of_other_code_is_refused(model, tmp_path):
    prefix = tf.train.Checkpoint(weights=tf.Variable([1.0])).write(str(tmp_path / "c"))
    with pytest.raises(UserError, match="is of another model"):
        checkpoints.restore_model(model, prefix)


@pytest.mark.parametrize("name", ["none", "text.keras", "text.weights.h5", "text"])
def test_a_path_without_a_checkpoint_is_named(model, tmp_path, name):
    if name != "none":
        (tmp_path / name).write_text("not weights")
    with pytest.raises(UserError, match=name):
        checkpoints.restore_model(model, str(tmp_path / name))


def test_a_truncated_checkpoint_is_an_error(model, tmp_path):
    prefix = save(model, built_optimizer(model), tmp_path)
    index = tmp_path / "ckpt-7.index"
    index.write_bytes(index.read_bytes()[:20])
    with pytest.raises(UserError, match="ckpt-7: is damaged .file is too short"):
        checkpoints.restore_model(model, prefix)


@pytest.mark.parametrize("size", [0, 2, 1000])
def test_damaged_checkpoint_data_is_an_error(model, tmp_path, size):
    prefix = save(model, built_optimizer(model), tmp_path)
    (data,) = tmp_path.glob("ckpt-7.data-*")
    data.write_bytes(data.read_bytes()[:size])
    with pytest.raises(UserError, match="ckpt-7: is damaged .*No other one beside it"):
        checkpoints.restore_model(model, prefix)


def test_two_variables_of_one_path_are_refused():
    variables = [keras.Variable([1.0], name="same") for _ in range(2)]
    with pytest.raises(ValueError, match="path 'same'"):
        checkpoints.by_path(variables)


def test_seed_paths_do_not_count_the_models_made_before():
    names = []
    for _ in range(2):
        inputs = keras.Input((2,))
        model = keras.Model(inputs, keras.layers.Dropout(0.5, name="d")(inputs))
        names.append(list(checkpoints.by_path(model.variables)))
    assert names[0] == names[1]
    assert len(names[0]) == 1
