"""Every contraction order gives the block's numbers, gradients included."""

import itertools

import keras
import numpy as np
import pytest

from keras_nonlocal import NonLocal3D
from keras_nonlocal.layers.contraction_order import (
    ContractionOrder,
    Sizes,
    block_cost,
    contraction_orders,
)
from keras_nonlocal.ops import MODES
from keras_nonlocal.ops.pairwise import PAIRWISE
from tests.backends import FLOAT, RTOL, assert_close, layer_gradients, to_numpy
from tests.layers.blocks import expected_output, random_block, random_input

ORDERS = [
    (mode, order)
    for mode in MODES
    for algorithm in PAIRWISE[mode].forms
    for order in contraction_orders(mode, algorithm)
]
PLAIN = ContractionOrder("dense")
# The normalisation of so few positions magnifies float32's rounding.
TOLERANCE = RTOL if FLOAT == "float64" else 20 * RTOL
OPTIONS = [
    {},
    {"use_bias": False},
    {"pool_position": "after"},
    {"scope": "time", "group_size": 2},
    {"normalization": None, "sub_sample": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("mode", "order"), ORDERS, ids=str)
def test_equals_the_equations(mode, order, options):
    layer = random_block(mode=mode, **options)
    layer.contraction_order = order
    x = random_input()
    for training in (False, True):
        expected = expected_output(layer, x, training=training)
        assert_close(layer(x, training=training), expected, TOLERANCE)


@pytest.mark.parametrize(
    ("options", "training"),
    [
        ({}, True),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in itertools.product(OPTIONS[:3], [True, False])
            if case != ({}, True)
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize(("mode", "order"), ORDERS, ids=str)
def test_gradients_equal_the_plain_order(mode, order, training, options):
    layer = random_block(mode=mode, **options)
    x, cotangent = random_input(), random_input(seed=1)
    layer.contraction_order = PLAIN
    expected = layer_gradients(layer, x, cotangent, training=training)
    layer.contraction_order = order
    actual = layer_gradients(layer, x, cotangent, training=training)
    scale = max(np.abs(e).max() for e in expected.values())
    # float32: what cancels in the softmax and the normalisation is of the scale of
    # the block's largest gradient.
    part = 1e-2 if FLOAT == "float64" else 1.0
    for name, gradient in actual.items():
        floor = max(np.abs(expected[name]).max(), part * scale)
        error = np.abs(gradient - expected[name]).max()
        assert error <= TOLERANCE * floor, name


# The algorithm, and which matrices it folds, for the four modes. The order of res4
# was measured to be the fastest on a CPU, and so was linear in res3.
CHOICES = """
default          1x4x28x28x512   dense     dense           linear+theta+w_z sorted+w_z
default          8x4x28x28x512   chunked   chunked         linear+theta+w_z sorted+w_z
default          1x4x14x14x1024  dense+w_z dense+theta+w_z dense+theta+w_z  dense+w_z
default          1x4x7x7x2048    dense+w_z dense+theta+w_z dense+theta+w_z  dense+w_z
default          1x32x28x28x512  chunked   chunked         linear+theta+w_z sorted+w_z
default          1x64x56x56x64   chunked   chunked         linear+theta+w_z sorted
default          ?x?x?x?x64      chunked   chunked         linear           sorted
sub_sample=False 1x4x28x28x512   dense     dense           linear+theta+w_z sorted
sub_sample=False 8x4x28x28x512   chunked   chunked         linear+theta+w_z sorted
sub_sample=False 1x4x14x14x1024  dense     dense           linear           sorted
sub_sample=False 1x4x7x7x2048    dense     dense           dense            dense
sub_sample=False 1x32x28x28x512  chunked   chunked         linear+theta+w_z sorted
sub_sample=False 1x64x56x56x64   chunked   chunked         linear+theta+w_z sorted
scope=space      1x4x28x28x512   dense+w_z dense+theta+w_z dense+theta+w_z  dense+w_z
scope=space      8x4x28x28x512   dense+w_z dense+theta+w_z dense+theta+w_z  dense+w_z
scope=space      1x4x14x14x1024  dense+w_z dense+theta+w_z dense+theta+w_z  dense+w_z
scope=space      1x4x7x7x2048    dense+w_z dense+theta+w_z dense+theta+w_z  dense+w_z
scope=space      1x32x28x28x512  dense+w_z dense+theta+w_z dense+theta+w_z  dense+w_z
scope=space      1x64x56x56x64   chunked   chunked         linear+theta+w_z sorted
scope=time       1x4x28x28x512   dense+w_z dense+theta+w_z dense+theta+w_z  dense+w_z
scope=time       8x4x28x28x512   dense+w_z dense+theta+w_z dense+theta+w_z  dense+w_z
scope=time       1x4x14x14x1024  dense+w_z dense+theta+w_z dense+theta+w_z  dense+w_z
scope=time       1x4x7x7x2048    dense+w_z dense+theta+w_z dense+theta+w_z  dense+w_z
scope=time       1x32x28x28x512  dense+w_z dense+theta+w_z dense+theta+w_z  dense+w_z
scope=time       1x64x56x56x64   chunked+w_z dense+theta+w_z linear+theta+w_z sorted
"""


@pytest.mark.parametrize("line", CHOICES.strip().splitlines())
def test_the_recorded_order_is_chosen(line):
    option, shape, *expected = line.split()
    name, _, value = option.partition("=")
    options = {name: {"False": False}.get(value, value)} if value else {}
    shape = tuple(None if n == "?" else int(n) for n in shape.split("x"))
    for mode, choice in zip(MODES, expected, strict=True):
        layer = NonLocal3D(mode=mode, **options)
        layer.build(shape)
        algorithm, *folded = choice.split("+")
        order = ContractionOrder(algorithm, "theta" in folded, "w_z" in folded)
        assert layer.contraction_order_for(shape) == order, mode


@pytest.mark.parametrize("algorithm", ["dense", "chunked"])
def test_a_named_algorithm_is_kept(algorithm):
    layer = NonLocal3D(algorithm=algorithm)
    layer.build((1, 8, 8, 8, 16))
    assert layer.contraction_order_for((1, 8, 8, 8, 16)).algorithm == algorithm
    assert NonLocal3D.from_config(layer.get_config()).algorithm == algorithm


def test_an_algorithm_of_another_mode_is_refused():
    with pytest.raises(ValueError, match="algorithm=.linear. is not a form"):
        NonLocal3D(algorithm="linear")


def test_cost_counts_the_plain_products():
    n, m, c, d = 3136, 784, 512, 256
    cost = block_cost("embedded_gaussian", PLAIN, Sizes(2, n, m, c, d, m))
    assert cost.multiply_adds == 2 * (2 * n * c * d + 2 * m * c * d + 2 * n * m * d)


@pytest.mark.parametrize(
    "mode",
    [
        # This mode has all of the kernels.
        pytest.param(mode, marks=[pytest.mark.slow] * (mode != "concatenation"))
        for mode in MODES
    ],
)
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
