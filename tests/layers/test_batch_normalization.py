import keras
import numpy as np
import pytest

from keras_nonlocal.layers import BatchNormalization
from tests.backends import assert_close, layer_gradients, to_numpy

SHAPE = (4, 2, 3, 3, 5)


def draw(seed=0):
    return np.random.default_rng(seed).normal(2, 3, SHAPE).astype("float32")


def twins(shape=SHAPE, **options):
    """Ours and Keras's, with the same weights."""
    ours = BatchNormalization(**options)
    theirs = keras.layers.BatchNormalization(
        **{"momentum": 0.9, "epsilon": 1e-5, **options}
    )
    rng = np.random.default_rng(1)
    for layer in (ours, theirs):
        layer.build(shape)
    weights = [rng.uniform(0.5, 1.5, w.shape).astype("float32") for w in ours.weights]
    for layer in (ours, theirs):
        layer.set_weights(weights)
    return ours, theirs


@pytest.mark.parametrize(
    "options",
    [{}, {"center": False}, {"scale": False}, {"axis": 1}, {"dtype": "mixed_bfloat16"}],
)
@pytest.mark.parametrize("training", [False, True])
def test_equals_keras(options, training):
    ours, theirs = twins(**options)
    rtol = 1e-2 if "dtype" in options else 1e-5
    expected = to_numpy(theirs(draw(), training=training)).astype("float64")
    assert_close(ours(draw(), training=training), expected, rtol)
    for own, other in zip(ours.weights, theirs.weights, strict=True):
        assert_close(own, to_numpy(other), rtol)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_equal_keras(training):
    ours, theirs = twins()
    cotangent = draw(2)
    expected = layer_gradients(theirs, draw(), cotangent, training=training)
    for name, grad in layer_gradients(
        ours, draw(), cotangent, training=training
    ).items():
        assert_close(grad, expected[name], 2e-5)


def test_a_mask_leaves_positions_out():
    ours, theirs = twins((2, 6, 5))
    x = draw().reshape(2, -1, 5)[:, :6]
    mask = np.array([[1, 1, 0, 1, 0, 1], [1, 0, 0, 0, 1, 1]], bool)
    expected = to_numpy(theirs(x, training=True, mask=mask))
    assert_close(ours(x, training=True, mask=mask), expected, 1e-6)
    assert_close(ours.moving_mean, to_numpy(theirs.moving_mean), 1e-6)


def test_a_layer_that_is_not_trainable_applies_its_statistics():
    layer, _ = twins()
    expected = to_numpy(layer(draw(), training=False))
    layer.trainable = False
    np.testing.assert_array_equal(to_numpy(layer(draw(), training=True)), expected)
