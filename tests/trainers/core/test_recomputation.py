"""The recomputing model against the plain one: values, gradients, updates."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal import I3D
from keras_nonlocal.layers import BatchNormalization
from trainers.core.errors import UserError
from trainers.core.recomputation import RecomputedModel, recompute

ENDS = ["out0", "out1"]


def build(dtype, trainable=True, shape=(4, 6, 6, 2)):
    """Two residual blocks with batch normalisation, dropout and a regularizer."""
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input(shape)
    for i in range(2):
        y = keras.layers.Conv3D(
            8, 3, padding="same", kernel_regularizer="l2", name=f"conv{i}", dtype=dtype
        )(x)
        y = BatchNormalization(name=f"bn{i}", dtype=dtype)(y)
        y = keras.layers.Dropout(0.3, name=f"dropout{i}", dtype=dtype)(y)
        short = keras.layers.Conv3D(8, 1, name=f"short{i}", dtype=dtype)(x)
        y = keras.layers.Add(name=f"add{i}", dtype=dtype)([y, short])
        x = keras.layers.ReLU(name=f"out{i}", dtype=dtype)(y)
    x = keras.layers.GlobalAveragePooling3D(name="pool", dtype="float32")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="pred", dtype="float32")(x))
    model.get_layer("conv0").trainable = trainable
    return model


def train(model, network, clips, eagerly=False):
    """Loss and gradients of two steps, and all variables after them."""

    def step():
        with tf.GradientTape() as tape:
            tape.watch(clips)
            loss = tf.reduce_sum(network(clips, training=True) ** 2)
            if network.losses:
                loss += tf.add_n(network.losses)
        sources = [clips, *(v.value for v in network.trainable_variables)]
        return loss, tape.gradient(loss, sources)

    call = step if eagerly else tf.function(step)
    results = [tf.nest.map_structure(np.array, call()) for _ in range(2)]
    return results, {v.path: v.numpy() for v in model.variables}


def clips_like(model):
    shape = [2, *(n or 6 for n in model.input_shape[1:])]
    return tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)


def assert_same(one, other, tolerance):
    results, variables = one
    others, their_variables = other
    for a, b in zip(tf.nest.flatten(results), tf.nest.flatten(others), strict=True):
        scale = np.abs(a).max()
        np.testing.assert_allclose(b, a, rtol=0, atol=tolerance * scale)
    # Two generators of one name are told apart by a number.
    for (path, a), b in zip(variables.items(), their_variables.values(), strict=True):
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=1e-7, err_msg=path)


@pytest.mark.parametrize(
    ("dtype", "trainable"),
    [
        ("float32", True),
        ("mixed_float16", False),
        pytest.param("float32", False, marks=pytest.mark.slow),
        pytest.param("mixed_float16", True, marks=pytest.mark.slow),
        pytest.param("mixed_bfloat16", True, marks=pytest.mark.slow),
        pytest.param("mixed_bfloat16", False, marks=pytest.mark.slow),
    ],
)
def test_values_gradients_and_updates_are_those_of_the_model(dtype, trainable):
    """The same masks, statistics moved once, the regularizer counted once."""
    plain, other = build(dtype, trainable), build(dtype, trainable)
    expected = train(plain, plain, clips_like(plain))
    found = train(other, RecomputedModel(other, ENDS), clips_like(other))
    assert_same(expected, found, 1e-5 if dtype == "float32" else 1e-2)


def test_the_comparison_detects_masks_and_statistics():
    model = build("float32")
    (first, second), variables = train(model, model, clips_like(model))
    assert abs(first[0] - second[0]) > 1e-3 * abs(first[0])  # other masks
    assert np.abs(variables["bn0/moving_mean"]).max() > 1e-3


def test_it_runs_eagerly_too():
    plain, other = build("float32"), build("float32")
    expected = train(plain, plain, clips_like(plain), eagerly=True)
    network = RecomputedModel(other, ENDS)
    assert_same(expected, train(other, network, clips_like(other), True), 1e-5)


def test_sizes_may_be_dynamic():
    plain = build("float32", shape=(None, None, None, 2))
    other = build("float32", shape=(None, None, None, 2))
    expected = train(plain, plain, clips_like(plain))
    found = train(other, RecomputedModel(other, ENDS), clips_like(other))
    assert_same(expected, found, 1e-5)


@pytest.mark.slow
def test_a_non_local_i3d_gives_the_same():
    def network():
        keras.utils.set_random_seed(0)
        return I3D(
            depth=14,
            width=4,
            num_classes=3,
            input_shape=(4, 32, 32, 3),
            non_local={"res3": [0]},
            non_local_options={"kernel_initializer": "he_normal"},
            dropout_rate=0.0,
        )

    plain, other = network(), network()
    expected = train(plain, plain, clips_like(plain))
    ends = ["pool1", "res2_0_out", "res3_0_out", "res3_0_nonlocal", "res5_0_out"]
    found = train(other, RecomputedModel(other, ends), clips_like(other))
    assert_same(expected, found, 1e-4)


def test_inference_and_attributes_are_the_models():
    model = build("float32")
    network = RecomputedModel(model, ENDS)
    clips = clips_like(model)
    np.testing.assert_array_equal(network(clips), model(clips))
    assert network.trainable_variables == model.trainable_variables


def test_the_original_model_is_unchanged():
    model = build("float32")
    config, paths = model.get_config(), [v.path for v in model.variables]
    RecomputedModel(model, ENDS)
    assert model.get_config() == config
    assert [v.path for v in model.variables] == paths


class _Task:
    def __init__(self, *ends):
        self.block_ends = lambda model: ends


def test_a_model_without_blocks_is_refused():
    with pytest.raises(UserError, match="recompute_activations is true, but .*blocks"):
        recompute(build("float32"), _Task())


def test_a_loss_of_activations_is_refused():
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(2, activity_regularizer="l2", name="dense")
    with pytest.raises(UserError, match="dense has an activity_regularizer"):
        recompute(keras.Model(inputs, dense(inputs)), _Task("dense"))
