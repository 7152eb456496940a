"""Centres of receptive fields, against the responses to impulses."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_nonlocal import C2D, I3D
from keras_nonlocal.receptive_field import Grid, feature_grid

LENGTH = 48


def sum_window(extent, **options):
    return layers.Conv1D(1, extent, kernel_initializer="ones", **options)


STACKS = {
    "same, stride 2, even": [sum_window(7, strides=2, padding="same")],
    "same twice": [sum_window(3, strides=2, padding="same") for _ in range(2)],
    "valid pooling": [sum_window(5), layers.AveragePooling1D(3, 2)],
    "padding": [layers.ZeroPadding1D((3, 2)), sum_window(7, strides=2)],
    "dilation": [sum_window(3, dilation_rate=4, padding="same")],
    "causal": [sum_window(4, padding="causal"), layers.AveragePooling1D(2)],
    "up-sampling": [layers.AveragePooling1D(4), layers.UpSampling1D(2)],
    "residual": "residual",
}


def residual(x):
    shortcut = sum_window(1, strides=2)(x)
    y = sum_window(3, strides=2)(layers.ZeroPadding1D(1)(x))
    return layers.ReLU()(shortcut + y)


def build(stack):
    x = inputs = keras.Input((LENGTH, 1))
    for layer in [residual] if stack == "residual" else stack:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("name", STACKS)
def test_centres_are_the_centroids_of_impulse_responses(name):
    model = build(STACKS[name])
    impulses = np.eye(LENGTH, dtype="float32")[..., None]
    response = keras.ops.convert_to_numpy(model(impulses))[
        ..., 0
    ]  # (input pixel, position)
    centroids = np.arange(LENGTH) @ response / response.sum(0)
    grid = feature_grid(model.output, model.output.shape[1:-1], (LENGTH,))
    # Positions near a border see less of it than their window.
    inside = slice(4, -4)
    centres = grid.centres[:, 0]
    if name == "up-sampling":  # repeats: cells share the centre of their source
        centres = centres.reshape(-1, 2).mean(1).repeat(2)
    np.testing.assert_allclose(centres[inside], centroids[inside], atol=1e-4)


@pytest.mark.parametrize(
    ("convention", "first"), [("video_nonlocal_net", 2.0), ("pyslowfast", 0.0)]
)
def test_grid_of_c2d_counts_the_padding_of_pool1(convention, first):
    model = C2D(14, 2, (8, 64, 64, 3), width=4, convention=convention)
    res2 = feature_grid(model.get_layer("pool2").input, (8, 16, 16), (8, 64, 64))
    res3 = feature_grid(model.get_layer("pool2").output, (4, 16, 16), (8, 64, 64))
    assert res2.start == (0, first, first) and res2.stride == (1, 4, 4)
    assert res3.start == (0.5, first, first) and res3.stride == (2, 4, 4)


def test_grid_of_a_model_of_unknown_size_is_that_of_its_input():
    model = I3D(14, 2, (None, None, None, 3), width=4, stem="32x2")
    tensor = model.get_layer("res4_0_branch2a").input
    grid = feature_grid(tensor, (2, 4, 4), (16, 64, 64))
    # Time: conv1 at 0 and every 2; pool1 averages 2 of these, pool2 2 of those.
    assert grid.start == (1 + 2, 2, 2) and grid.stride == (8, 8, 8)


def test_nested_model_covers_the_same_area_in_equal_cells():
    inner = keras.Sequential([keras.Input((16, 16, 3)), layers.AveragePooling2D(4)])
    inputs = keras.Input((16, 16, 3))
    grid = feature_grid(inner(inputs), (4, 4), (16, 16))
    assert grid.start == (1.5, 1.5) and grid.stride == (4, 4)


def test_pooled_grid_lies_between_the_positions_that_were_pooled():
    grid = Grid((2, 5, 5), (0.0, 2.0, 2.0), (1.0, 4.0, 4.0)).pooled((1, 2, 2))
    assert grid == Grid((2, 2, 2), (0.0, 4.0, 4.0), (1.0, 8.0, 8.0))


def test_nearest_finds_every_centre_and_clips_to_the_map():
    grid = Grid((2, 3, 4), (0.5, 2.0, 1.0), (2.0, 4.0, 8.0))
    assert [grid.nearest(*centre) for centre in grid.centres] == list(range(24))
    assert grid.nearest(99, 99, 99) == 23 and grid.nearest(-9, -9, -9) == 0
    assert grid.centres[4].tolist() == [0.5, 6.0, 1.0]


def test_positions_behind_a_flattening_cannot_be_traced():
    inputs = keras.Input((4, 4, 2))
    x = layers.Reshape((16, 2))(inputs)
    with pytest.raises(ValueError, match="cannot be traced"):
        feature_grid(x, (16,), (4, 4))
