import pytest

from keras_nonlocal import NonLocal3D
from keras_nonlocal.layers import estimate
from keras_nonlocal.models.complexity import count_macs
from tests.layers.blocks import functional

RES3, RES4 = (1, 4, 28, 28, 512), (1, 4, 14, 14, 1024)


def form(result, algorithm):
    return next(f for f in result.forms if f.algorithm == algorithm)


def test_the_dense_form_never_costs_more_than_the_equations_say():
    for options in ({}, {"mode": "dot_product"}, {"pool_position": "after"}):
        layer = NonLocal3D(**options)
        functional(layer, RES3[1:])
        published = count_macs(layer, RES3, RES3)
        dense = form(estimate(layer, RES3), "dense").multiply_adds
        assert dense <= published.embeddings + published.pairwise


def test_res3_of_the_embedded_gaussian_is_the_published_sum():
    layer = NonLocal3D()
    functional(layer, RES3[1:])
    published = count_macs(layer, RES3, RES3)
    dense = form(estimate(layer, RES3), "dense").multiply_adds
    assert dense == published.embeddings + published.pairwise


def test_maps_grow_with_the_square_and_lean_forms_do_not():
    small, large = (estimate({}, (1, t, 28, 28, 64)) for t in (8, 32))

    def growth(algorithm):
        return form(large, algorithm).peak_bytes / form(small, algorithm).peak_bytes

    assert growth("dense") > 12 and growth("chunked") < 6


@pytest.mark.parametrize(
    ("dtype", "mode", "itemsize", "map_itemsize"),
    [
        ("float32", "embedded_gaussian", 4, 4),
        ("float64", "embedded_gaussian", 8, 8),
        ("mixed_bfloat16", "embedded_gaussian", 2, 4),  # softmax
        ("mixed_float16", "dot_product", 2, 2),
    ],
)
def test_bytes_are_those_of_the_dtype(dtype, mode, itemsize, map_itemsize):
    """theta, phi, g, y, W_z y; and three maps."""
    n, m, c, d = 4 * 28 * 28, 4 * 14 * 14, 512, 8
    options = {"mode": mode, "intermediate_channels": d, "dtype": dtype}
    dense = form(estimate(options, RES3), "dense").peak_bytes
    stored = n * d + 2 * m * d + n * d + n * c
    assert dense == itemsize * stored + map_itemsize * 3 * n * m


@pytest.mark.parametrize(
    ("options", "shape", "chosen"),
    [
        ({}, RES4, "dense"),
        ({}, (1, 32, 28, 28, 512), "chunked"),
        ({"algorithm": "dense"}, (1, 32, 28, 28, 512), "dense"),
        ({"mode": "dot_product"}, RES3, "linear"),
        ({"mode": "concatenation"}, (1, 64, 56, 56, 256), "sorted"),
        ({"scope": "time"}, (1, 32, 28, 28, 512), "dense"),
    ],
)
def test_says_what_the_layer_uses(options, shape, chosen):
    result = estimate(options, shape)
    assert result.chosen == chosen
    assert f"* {chosen}" in str(result)


def test_leaves_an_unbuilt_layer_unbuilt():
    layer = NonLocal3D()
    estimate(layer, RES4)
    assert not layer.built


def test_refuses_what_it_cannot_estimate():
    with pytest.raises(ValueError, match="every axis of `input_shape` must be known"):
        estimate({}, (None, 4, 14, 14, 64))
    with pytest.raises(ValueError, match="an empty input"):
        estimate({}, (0, 4, 14, 14, 64))
    layer = NonLocal3D()
    layer.build((1, 4, 14, 14, 8))
    with pytest.raises(ValueError, match="built on 8 channels"):
        estimate(layer, (1, 4, 14, 14, 16))
    with pytest.raises(ValueError, match="expects inputs of rank 5"):
        estimate(layer, (1, 14, 14, 8))
    with pytest.raises(TypeError, match="expected a non-local layer or a dict"):
        estimate("res3", RES3)
