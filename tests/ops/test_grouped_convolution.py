"""Convolutions in groups of channels, as ResNeXt has them, against float64 NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_nonlocal.layers import PaddedConv2D
from keras_nonlocal.ops.convolution import conv
from tests.backends import assert_close, gradients, layer_gradients, to_numpy
from tests.models.images import conv as reference

CASES = [(1, 1), (2, 1), (4, 1), (4, 2), (8, 2)]  # groups, stride


def arrays(groups, maps=(5, 4)):
    rng = np.random.default_rng(groups)
    x = rng.normal(size=(2, *maps, 8))
    return x, rng.normal(size=(3, 3, 8 // groups, 16))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("groups, stride", CASES)
def test_values(groups, stride, training):
    x, kernel = arrays(groups)
    single = [a.astype("float32") for a in (x, kernel)]
    y = conv(*map(ops.convert_to_tensor, single), (stride, stride), training)
    assert_close(y, reference(x, kernel, stride), 1e-5)


@pytest.mark.parametrize("groups, stride", CASES)
def test_gradients(groups, stride):
    """Of a linear function: its values at the unit vectors."""
    x, kernel = arrays(groups, maps=(3, 4))
    cotangent = np.random.default_rng(9).normal(size=reference(x, kernel, stride).shape)

    def loss(x, kernel):
        y = conv(x, kernel, (stride, stride), training=True)
        return ops.sum(y * ops.convert_to_tensor(cotangent, y.dtype))

    of_x, of_kernel = gradients(loss, [x, kernel], "float32")
    expected = [
        np.sum(reference(e, kernel, stride) * cotangent) for e in unit_vectors(x.shape)
    ]
    assert_close(of_x, np.reshape(expected, x.shape), 1e-5)
    expected = [
        np.sum(reference(x, e, stride) * cotangent) for e in unit_vectors(kernel.shape)
    ]
    assert_close(of_kernel, np.reshape(expected, kernel.shape), 1e-5)


def unit_vectors(shape):
    for index in np.ndindex(*shape):
        vector = np.zeros(shape)
        vector[index] = 1
        yield vector


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(policy, strides):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 5, 16)).astype("float32")
    layers = [
        PaddedConv2D(16, 3, strides, groups=4, use_bias=False, dtype=dtype)
        for dtype in ("float32", policy)
    ]
    for layer in layers:
        layer.build(x.shape)
    layers[1].set_weights(layers[0].get_weights())
    expected = to_numpy(layers[0](x))
    cotangent = rng.normal(size=expected.shape).astype("float32")
    assert_close(ops.cast(layers[1](x), "float32"), expected, 0.02)
    expected, actual = (
        layer_gradients(x=x, layer=y, cotangent=cotangent, training=True)
        for y in layers
    )
    for name in expected:
        assert_close(actual[name], expected[name], 0.02)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs")
def test_graphs_with_images_of_any_size_need_no_xla():
    import tensorflow as tf

    layer = PaddedConv2D(16, 3, 2, groups=4, use_bias=False)
    layer.build((None, None, None, 8))
    spec = tf.TensorSpec((None, None, None, 8), tf.float32)
    function = tf.function(lambda x: layer(x, training=True), input_signature=[spec])
    concrete = function.get_concrete_function()
    kinds = {operation.type for operation in concrete.graph.get_operations()}
    assert "Conv2D" in kinds and not any("Call" in kind for kind in kinds)
    x, _ = arrays(4, maps=(7, 6))
    expected = reference(x, to_numpy(layer.kernel).astype("float64"), 2)
    assert_close(function(x.astype("float32")), expected, 1e-5)
