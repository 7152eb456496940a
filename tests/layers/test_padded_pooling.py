import keras
import numpy as np
import pytest

from keras_nonlocal.layers import PaddedMaxPooling3D, WindowMean


def pool_by_hand(x, size, strides, pad):
    """Maximum over the positions of each window that lie on the map."""
    maps = x.shape[1:4]
    counts = [
        (n + 2 * p - k) // s + 1
        for n, k, s, p in zip(maps, size, strides, pad, strict=True)
    ]
    y = np.empty((x.shape[0], *counts, x.shape[-1]), x.dtype)
    for index in np.ndindex(*counts):
        window = tuple(
            slice(max(i * s - p, 0), i * s - p + k)
            for i, k, s, p in zip(index, size, strides, pad, strict=True)
        )
        y[(slice(None), *index)] = x[(slice(None), *window)].max((1, 2, 3))
    return y


@pytest.mark.parametrize("maps", [(4, 6, 8), (5, 7, 6)])
@pytest.mark.parametrize(
    "size, strides, pad",
    [
        ((1, 3, 3), (1, 2, 2), (0, 0, 0)),
        ((2, 3, 3), (2, 2, 2), (0, 1, 1)),
        ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
        ((3, 1, 1), (2, 1, 1), (1, 0, 0)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_padding_never_wins(maps, size, strides, pad, dtype):
    x = -np.random.default_rng(0).uniform(1, 2, (2, *maps, 3)).astype(dtype)
    layer = PaddedMaxPooling3D(size, strides, pad, dtype=dtype)
    expected = pool_by_hand(x, size, strides, pad)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(x)), expected)
    assert layer.compute_output_shape(x.shape) == expected.shape
    again = PaddedMaxPooling3D.from_config(layer.get_config())
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(x)), expected)


def test_window_mean_slides_by_one():
    x = np.random.default_rng(0).normal(size=(2, 1, 4, 3, 5)).astype("float32")
    y = keras.ops.convert_to_numpy(WindowMean((1, 3, 2))(x))
    assert y.shape == (2, 1, 2, 2, 5)
    for i, j in np.ndindex(2, 2):
        expected = x[:, 0, i : i + 3, j : j + 2].mean((1, 2))
        np.testing.assert_allclose(y[:, 0, i, j], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "layer", [PaddedMaxPooling3D((1, 3, 3), (1, 2, 2)), WindowMean((1, 3, 3))]
)
def test_map_smaller_than_the_window_is_an_error(layer):
    with pytest.raises(ValueError, match=r"window of \(1, 3, 3\) .* \(1, 3, 2\).*W"):
        layer(np.ones((1, 1, 3, 2, 4)))
