import numpy as np
import pytest
from keras import ops

from keras_nonlocal.ops.resampling import adaptive_max_pool, nearest
from tests.backends import assert_close, gradients, to_numpy

SIZES = [(4, 8), (5, 9), (3, 10), (6, 21), (8, 4), (10, 3), (7, 7), (1, 5), (9, 1)]


def image(height, width=3):
    return np.random.default_rng(0).normal(size=(2, height, width, 2)).astype("float32")


def by_windows(x, height, width):
    """The maximum from floor(i n / size) to ceil((i + 1) n / size)."""
    y = np.empty((len(x), height, width, x.shape[-1]))
    for i, j in np.ndindex(height, width):
        rows, columns = (
            slice(k * n // size, -(-(k + 1) * n // size))
            for k, n, size in zip((i, j), x.shape[1:3], (height, width), strict=True)
        )
        y[:, i, j] = x[:, rows, columns].max((1, 2))
    return y


@pytest.mark.parametrize("length, size", SIZES)
def test_nearest_takes_the_position_before(length, size):
    x = image(length)
    rows, columns = np.arange(size) * length // size, np.arange(5) * 3 // 5
    expected = x[:, rows][:, :, columns]
    np.testing.assert_array_equal(to_numpy(nearest(x, size, 5)), expected)


@pytest.mark.parametrize("length, size", SIZES)
def test_maximum_of_windows_that_cover_the_map(length, size):
    x = image(length)
    actual = to_numpy(adaptive_max_pool(x, size, 2))
    np.testing.assert_array_equal(actual, by_windows(x, size, 2))


@pytest.mark.parametrize("function", [nearest, adaptive_max_pool])
@pytest.mark.parametrize("sizes", [(7, 5), (3, 2), (10, 3)])
def test_gradients(function, sizes):
    """Both choose positions: y is linear in x around it."""
    x = image(5, 4)[:1]
    values = np.arange(x.size).reshape(x.shape)
    chosen = to_numpy(function(x, *sizes))
    source = {value: place for value, place in zip(x.flat, values.flat, strict=True)}
    cotangent = np.random.default_rng(1).normal(size=chosen.shape).astype("float32")
    expected = np.zeros(x.size)
    for value, weight in zip(chosen.flat, cotangent.flat, strict=True):
        expected[source[value]] += weight

    def loss(x):
        return ops.sum(function(x, *sizes) * ops.convert_to_tensor(cotangent))

    [actual] = gradients(loss, [x], "float32")
    assert_close(actual, expected.reshape(x.shape), 1e-5)
