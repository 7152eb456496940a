import numpy as np
import pytest

from keras_nonlocal.layers import PaddedConv3D
from tests.backends import assert_close, layer_gradients, to_numpy

CASES = [
    ((5, 7, 7), (2, 2, 2), (4, 9, 8)),
    ((1, 3, 3), (1, 2, 2), (3, 6, 7)),
    ((3, 1, 1), (1, 1, 1), (2, 4, 4)),
    ((3, 3, 3), (1, 1, 1), (3, 5, 4)),
    ((1, 1, 1), (1, 2, 2), (2, 5, 4)),
    ((5, 7, 7), (1, 2, 2), (4, 1, 2)),
]


def reference(x, kernel, strides):
    """Loops over output positions, k // 2 zeros on both sides."""
    extents = kernel.shape[:3]
    pad = [(n // 2, n // 2) for n in extents]
    x = np.pad(x, [(0, 0), *pad, (0, 0)])
    sizes = [
        (n - k) // s + 1 for n, k, s in zip(x.shape[1:4], extents, strides, strict=True)
    ]
    y = np.zeros((x.shape[0], *sizes, kernel.shape[-1]))
    for position in np.ndindex(*sizes):
        window = tuple(
            slice(i * s, i * s + k)
            for i, s, k in zip(position, strides, extents, strict=True)
        )
        patch = x[(slice(None), *window)]
        y[(slice(None), *position)] = np.tensordot(patch, kernel, 4)
    return y


def build(kernel_size, strides, maps, dtype=None):
    layer = PaddedConv3D(16, kernel_size, strides, use_bias=False, dtype=dtype)
    x = np.random.default_rng(0).normal(size=(2, *maps, 16)).astype("float32")
    layer.build(x.shape)
    return layer, x


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("kernel_size", "strides", "maps"), CASES)
def test_pads_both_sides_alike(kernel_size, strides, maps, training):
    layer, x = build(kernel_size, strides, maps)
    expected = reference(x, to_numpy(layer.kernel), strides)
    assert_close(layer(x, training=training), expected, 1e-5)
    assert tuple(layer.compute_output_shape(x.shape)) == expected.shape
    again = PaddedConv3D.from_config(layer.get_config())
    again.build(x.shape)
    again.set_weights(layer.get_weights())
    assert_close(again(x), expected, 1e-5)


@pytest.mark.parametrize("strides", [(1, 1, 1), (1, 2, 2), (2, 1, 2)])
def test_both_forms_of_a_1x1x1_kernel_have_the_same_gradients(strides):
    layer, x = build((1, 1, 1), strides, (3, 5, 4))
    shape = layer.compute_output_shape(x.shape)
    cotangent = np.random.default_rng(1).normal(size=shape).astype("float32")
    expected = layer_gradients(layer, x, cotangent, training=False)
    for name, grad in layer_gradients(layer, x, cotangent, training=True).items():
        assert_close(grad, to_numpy(expected[name]), 1e-5)


@pytest.mark.parametrize("kernel_size", [(3, 1, 1), (1, 3, 3), (3, 3, 3)])
@pytest.mark.parametrize("maps", [(3, 3, 3), (4, 8, 8)])  # few positions, and many
def test_bfloat16_gradients_are_those_of_float32(kernel_size, maps):
    wide, x = build(kernel_size, (1, 1, 1), maps)
    half, _ = build(kernel_size, (1, 1, 1), maps, "mixed_bfloat16")
    half.set_weights(wide.get_weights())
    cotangent = np.random.default_rng(1).normal(size=x.shape).astype("float32")
    expected = layer_gradients(wide, x, cotangent, training=True)
    for name, grad in layer_gradients(half, x, cotangent, training=True).items():
        assert_close(grad, expected[name], 0.02)


def test_bias_and_activation_follow_the_sum():
    layer = PaddedConv3D(4, (1, 3, 3), activation="relu", bias_initializer="ones")
    x = np.random.default_rng(0).normal(size=(1, 2, 4, 4, 3)).astype("float32")
    y = to_numpy(layer(x))
    expected = reference(x, to_numpy(layer.kernel), (1, 1, 1)) + 1
    assert_close(y, np.maximum(expected, 0), 1e-5)


@pytest.mark.parametrize("taps", [3, 5])
def test_bfloat16_gradients_are_right_on_maps_smaller_than_the_kernel(taps):
    # Wrong gradients contain uninitialised memory: not every attempt shows it.
    for frames in (2, 3, 4, 2, 3, 4):
        layer, x = build((taps, 1, 1), (1, 1, 1), (frames, 8, 8))
        half, _ = build((taps, 1, 1), (1, 1, 1), (frames, 8, 8), "mixed_bfloat16")
        half.set_weights(layer.get_weights())
        shape = layer.compute_output_shape(x.shape)
        cotangent = np.random.default_rng(1).normal(size=shape).astype("float32")
        expected = layer_gradients(layer, x, cotangent)
        for name, grad in layer_gradients(half, x, cotangent).items():
            assert_close(grad, expected[name], 0.02)
