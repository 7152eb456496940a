import keras
import numpy as np
import pytest

from keras_nonlocal.ops import max_pool_3d, spatial_max_pool
from tests import reference
from tests.backends import gradients, to_numpy


@pytest.mark.parametrize("shape", [(2, 9, 3), (2, 7, 6, 3), (2, 3, 7, 5, 3)])
def test_equals_a_loop_over_space_and_leaves_time_alone(shape):
    x = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_array_equal(to_numpy(spatial_max_pool(x)), reference.max_pool(x))


def test_the_gradient_of_a_window_goes_to_one_of_equal_maxima():
    """Zeros, after a ReLU: to the first in time, as TensorFlow's graphs do."""
    x = np.zeros((1, 4, 2, 2, 1))
    x[0, 1, 0, 0] = 1
    weights = np.arange(1.0, 9).reshape(1, 2, 2, 2, 1)

    def loss(x):
        pooled = max_pool_3d(x, (2, 1, 1), (2, 1, 1))
        return keras.ops.sum(pooled * keras.ops.cast(weights, pooled.dtype))

    (found,) = gradients(loss, [x], "float32")
    expected = np.zeros((4, 2, 2))
    expected[[0, 2]] = weights[0, ..., 0]
    expected[[0, 1], 0, 0] = [0, 1]
    np.testing.assert_array_equal(found[0, ..., 0], expected)
