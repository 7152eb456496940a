"""Every order of multiplication gives the block's numbers, gradients included."""

import keras
import numpy as np
import pytest

from keras_nonlocal import NonLocal3D
from keras_nonlocal.layers import base_non_local
from keras_nonlocal.layers.order import (
    Order,
    Sizes,
    block_cost,
    cheapest_order,
    possible_orders,
)
from keras_nonlocal.ops import algorithms
from tests.backends import FLOAT, RTOL, assert_close, layer_gradients, to_numpy
from tests.layers.blocks import expected_output, random_block, random_input

MODES = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")
ORDERS = [(mode, order) for mode in MODES for order in possible_orders(mode, "auto")]
PLAIN = Order("dense")
# The normalisation of so few positions magnifies float32's rounding.
TOLERANCE = RTOL if FLOAT == "float64" else 20 * RTOL
OPTIONS = [
    {},
    {"use_bias": False},
    {"pool_position": "after"},
    {"scope": "time", "group_size": 2},
    {"normalization": None, "sub_sample": False},
]


def use(order, monkeypatch):
    monkeypatch.setattr(base_non_local, "cheapest_order", lambda *_: order)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("mode", "order"), ORDERS, ids=str)
def test_equals_the_equations(mode, order, options, monkeypatch):
    use(order, monkeypatch)
    layer = random_block(mode=mode, **options)
    x = random_input()
    for training in (False, True):
        expected = expected_output(layer, x, training=training)
        assert_close(layer(x, training=training), expected, TOLERANCE)


@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("mode", "order"), ORDERS, ids=str)
def test_gradients_equal_the_plain_order(mode, order, training, options, monkeypatch):
    layer = random_block(mode=mode, **options)
    x, cotangent = random_input(), random_input(seed=1)
    use(PLAIN, monkeypatch)
    expected = layer_gradients(layer, x, cotangent, training=training)
    use(order, monkeypatch)
    actual = layer_gradients(layer, x, cotangent, training=training)
    scale = max(np.abs(e).max() for e in expected.values())
    # float32: what cancels in the softmax and the normalisation is of the scale of
    # the block's largest gradient.
    part = 1e-2 if FLOAT == "float64" else 1.0
    for name, gradient in actual.items():
        floor = max(np.abs(expected[name]).max(), part * scale)
        error = np.abs(gradient - expected[name]).max()
        assert error <= TOLERANCE * floor, name


def test_the_cheapest_order_of_the_paper_maps():
    """Measured on a CPU: res4 folds both ends, res3 only the dot product's."""
    res3 = Sizes(1, 3136, 784, 512, 256, 784)
    res4 = Sizes(1, 784, 196, 1024, 512, 196)
    choices = {
        (mode, name): cheapest_order(mode, "auto", sizes)
        for mode in MODES
        for name, sizes in (("res3", res3), ("res4", res4))
    }
    assert choices["embedded_gaussian", "res4"] == Order("dense", True, True)
    assert choices["dot_product", "res4"] == Order("dense", True, True)
    assert choices["embedded_gaussian", "res3"] == Order("dense")
    assert choices["dot_product", "res3"].algorithm == "linear"
    assert choices["concatenation", "res3"].algorithm == "sorted"


def test_maps_beyond_the_budget_are_never_built():
    for mode in MODES:
        sizes = Sizes(1, 200_704, 50_176, 256, 128, 50_176)
        assert cheapest_order(mode, "auto", sizes).algorithm == algorithms.LEAN[mode]
        sizes = Sizes(None, None, None, 256, 128, None)
        assert cheapest_order(mode, "auto", sizes).algorithm == algorithms.LEAN[mode]


@pytest.mark.parametrize("algorithm", ["dense", "chunked"])
def test_a_named_algorithm_is_kept(algorithm):
    layer = NonLocal3D(algorithm=algorithm)
    layer.build((1, 8, 8, 8, 16))
    assert layer.order_for((1, 8, 8, 8, 16)).algorithm == algorithm
    assert NonLocal3D.from_config(layer.get_config()).algorithm == algorithm


def test_an_algorithm_of_another_mode_is_refused():
    with pytest.raises(ValueError, match="algorithm=.linear. is not a form"):
        NonLocal3D(algorithm="linear")


def test_cost_counts_the_plain_products():
    n, m, c, d = 3136, 784, 512, 256
    cost = block_cost("embedded_gaussian", PLAIN, Sizes(2, n, m, c, d, m))
    assert cost.multiply_adds == 2 * (2 * n * c * d + 2 * m * c * d + 2 * n * m * d)


@pytest.mark.parametrize("mode", MODES)
def test_int8_weights_give_nearly_the_same_numbers(mode):
    inputs = keras.Input((4, 6, 6, 16))
    layer = NonLocal3D(mode=mode, normalization=None)
    model = keras.Model(inputs, layer(inputs))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(0.3 * rng.normal(size=weight.shape))
    x = rng.normal(size=(1, 4, 6, 6, 16)).astype("float32")
    expected = to_numpy(model(x)) - x
    for dense in (layer.theta, layer.phi, layer.g, layer.w_z, layer.concat_projection):
        if dense is not None:
            dense.quantize("int8")
    error = np.abs(to_numpy(model(x)) - x - expected).max()
    assert 0 < error < 0.05 * np.abs(expected).max()
