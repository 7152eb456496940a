"""Batch normalisation against its formulas in float64."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_nonlocal.ops.batch_norm import normalize, normalize_by_batch
from tests.backends import FLOAT, assert_close, gradients, to_numpy

EPSILON = 1e-3
SHAPES = [(6, 3), (2, 5, 3), (2, 2, 3, 4, 3), (1, 1, 3)]
DTYPES = ["float32", FLOAT]


def draw(shape, seed=0):
    rng = np.random.default_rng(seed)
    gamma, beta = rng.normal(size=(2, shape[-1]))
    return rng.normal(3, 2, size=shape), gamma, beta


def reference(x, gamma, beta):
    rows = x.reshape(-1, x.shape[-1])
    mean, variance = rows.mean(0), rows.var(0)
    y = (x - mean) / np.sqrt(variance + EPSILON)
    gamma = 1 if gamma is None else gamma
    return y * gamma + (0 if beta is None else beta), mean, variance


@pytest.mark.parametrize("affine", [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_by_the_batch(shape, dtype, affine):
    x, *vectors = (a.astype(dtype) for a in draw(shape))
    gamma, beta = (
        v if is_used else None for v, is_used in zip(vectors, affine, strict=True)
    )
    results = normalize_by_batch(ops.convert_to_tensor(x), gamma, beta, EPSILON)
    expected = reference(x.astype("float64"), gamma, beta)
    for actual, value in zip(results, expected, strict=True):
        assert_close(actual, value, 2e-5 if dtype == "float32" else 1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_by_given_statistics(dtype):
    x, gamma, beta = (a.astype(dtype) for a in draw((2, 3, 4, 3)))
    mean, variance = np.array([1, 2, 3.0], dtype), np.array([4, 1, 0.5], dtype)
    y = normalize(ops.convert_to_tensor(x), mean, variance, gamma, beta, EPSILON)
    expected = (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta
    assert_close(y, expected, 2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients(dtype):
    x, gamma, beta = draw((2, 3, 2, 2, 3))
    cotangent = draw(x.shape, seed=1)[0]

    def loss(x, gamma, beta):
        y = normalize_by_batch(x, gamma, beta, EPSILON)[0]
        return ops.sum(y * ops.cast(cotangent, y.dtype))

    # From the definition: dL/dxhat through y, then through mean and variance.
    rows, dy = x.reshape(-1, 3), cotangent.reshape(-1, 3)
    spread = np.sqrt(rows.var(0) + EPSILON)
    xhat = (rows - rows.mean(0)) / spread
    dxhat = dy * gamma
    dx = (dxhat - dxhat.mean(0) - xhat * (dxhat * xhat).mean(0)) / spread
    expected = dx.reshape(x.shape), (dy * xhat).sum(0), dy.sum(0)
    actual = gradients(loss, (x, gamma, beta), dtype)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, 5e-5 if dtype == "float32" else 1e-10)


def test_half_precision_is_accumulated_in_float32():
    x = np.full((4096, 2), 256.0)
    x[::2] += 2.0  # bfloat16's step there
    y, mean, variance = normalize_by_batch(ops.cast(x, "bfloat16"), None, None, 0.0)
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    np.testing.assert_allclose(to_numpy(mean), 257.0, rtol=1e-6)
    np.testing.assert_allclose(to_numpy(variance), 1.0, rtol=1e-4)
    np.testing.assert_allclose(to_numpy(ops.cast(y, "float32"))[::2], 1.0, rtol=1e-2)


def test_large_means_do_not_eat_the_variance():
    x = np.random.default_rng(0).normal(1000, 0.1, (2000, 2)).astype("float32")
    variance = normalize_by_batch(ops.convert_to_tensor(x), None, None, 1e-5)[2]
    expected = x.astype("float64").var(0)
    np.testing.assert_allclose(to_numpy(variance), expected, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_vectors_may_be_in_half_precision(dtype):
    x, gamma, beta = draw((4, 5, 3))
    vectors = [gamma, beta, np.array([1, 2, 3.0]), np.array([4, 1, 0.5])]
    halves = [ops.cast(v, dtype) for v in vectors]
    gamma, beta, mean, variance = (to_numpy(v).astype("float64") for v in halves)
    x = ops.cast(x, dtype)
    wide = to_numpy(x).astype("float64")
    y, *statistics = normalize_by_batch(x, *halves[:2], EPSILON)
    expected, *moments = reference(wide, gamma, beta)
    assert_close(y, expected, 1e-2)
    for actual, value in zip(statistics, moments, strict=True):
        assert_close(actual, value, 2e-5)
    y = normalize(x, *halves[2:], *halves[:2], EPSILON)
    expected = (wide - mean) / np.sqrt(variance + EPSILON) * gamma + beta
    assert_close(y, expected, 1e-2)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs")
def test_graphs_need_not_know_the_number_of_channels():
    import tensorflow as tf

    x, gamma, beta = (a.astype("float32") for a in draw((2, 5, 3)))
    spec = tf.TensorSpec((None, None, None), tf.float32)
    graph = tf.function(
        lambda x: normalize_by_batch(x, gamma, beta, EPSILON), input_signature=[spec]
    )
    expected = reference(x.astype("float64"), gamma, beta)
    for actual, value in zip(graph(x), expected, strict=True):
        assert_close(actual, value, 2e-5)
