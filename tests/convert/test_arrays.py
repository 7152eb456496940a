import numpy as np
import pytest

from keras_nonlocal.convert.arrays import (
    identity_norm,
    port_bn,
    port_conv,
    port_dense,
    torch_to_keras,
)


def numbered(*shape):
    return np.arange(np.prod(shape), dtype="float32").reshape(shape)


def test_convolutions_by_index():
    kernel = numbered(2, 3, 4, 5, 6)  # (O, I, T, H, W)
    ours = port_conv(kernel)
    for o, i, t, h, w in np.ndindex(kernel.shape):
        assert ours[t, h, w, i, o] == kernel[o, i, t, h, w]


def test_image_kernels_are_divided_by_their_copies():
    kernel = numbered(2, 3, 5, 6)  # (O, I, H, W)
    ours = port_conv(kernel, 3)
    for t, h, w, i, o in np.ndindex(3, 5, 6, 3, 2):
        assert ours[t, h, w, i, o] == np.float32(kernel[o, i, h, w] / np.float32(3))


@pytest.mark.parametrize("ones", [(), (1, 1), (1, 1, 1)])
def test_products_by_index(ones):
    ours = port_dense(numbered(2, 3, *ones))
    assert ours.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_the_variance_keeps_what_is_divided_by():
    variance = np.array([0.25, 4.0])
    ours = port_bn(variance, 1.001e-5, 1e-5)
    np.testing.assert_allclose(ours + 1e-5, variance + 1.001e-5, rtol=1e-15)


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3, 0.5])
def test_the_identity_divides_by_one_in_float32(epsilon):
    filled = identity_norm(epsilon)
    variance = np.float32(filled["norm/moving_variance"]) + np.float32(epsilon)
    assert variance == 1


@pytest.mark.parametrize(
    "shape, ours",
    [
        ((4, 3, 1, 1), (5, 1, 1, 3, 4)),
        ((4, 3, 5, 7, 7), (5, 7, 7, 3, 4)),
        ((4, 3), (3, 4)),
        ((4, 3, 1, 1, 1), (3, 4)),
        ((4,), (4,)),
        ((4, 1, 1, 1), (4,)),
    ],
)
def test_the_layout_follows_from_our_shape(shape, ours):
    assert torch_to_keras(np.zeros(shape), ours).shape == ours


@pytest.mark.parametrize(
    "shape, ours",
    [
        ((4,), (5, 1, 1, 3, 4)),
        ((4, 3), (5, 1, 1, 3, 4)),
        ((4, 3, 3, 3), (3, 4)),
        ((4,), (3, 4)),
        ((4, 2), (4,)),
        ((), (4,)),
        ((), (3, 4)),
    ],
)
def test_what_has_no_layout_comes_back_as_it_is(shape, ours):
    assert torch_to_keras(np.zeros(shape), ours).shape == shape
