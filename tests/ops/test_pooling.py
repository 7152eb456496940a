import numpy as np
import pytest

from keras_nonlocal.ops import spatial_max_pool
from tests import reference
from tests.backends import to_numpy


@pytest.mark.parametrize("shape", [(2, 9, 3), (2, 7, 6, 3), (2, 3, 7, 5, 3)])
def test_equals_a_loop_over_space_and_leaves_time_alone(shape):
    x = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_array_equal(to_numpy(spatial_max_pool(x)), reference.max_pool(x))
