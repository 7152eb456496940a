"""Every exact form gives the dense form's numbers, gradients included."""

import keras
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from keras import ops

from keras_nonlocal.ops import chunks, non_local
from keras_nonlocal.ops.prefix_sums import prefix_sums
from keras_nonlocal.ops.sorted_relu import sorted_relu
from tests import reference
from tests.backends import FLOAT, RTOL, assert_close, gradients, to_numpy

FORMS = [
    ("gaussian", "chunked"),
    ("embedded_gaussian", "chunked"),
    ("dot_product", "linear"),
    ("concatenation", "sorted"),
]


def operands(mode, batch, n, m, d, d_g, seed=0, size=1.0, ties=False):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=s) for s in ((batch, n, d), (batch, m, d))]
    if ties:  # whole numbers: equal scores, and a_i + b_j = 0 exactly
        arrays = [np.round(a) for a in arrays]
    arrays[0] = arrays[0] * size
    arrays.append(rng.normal(size=(batch, m, d_g)))
    if mode == "concatenation":
        arrays.append(np.ones((2 * d, 1)) if ties else rng.normal(size=(2 * d, 1)))
    return [a.astype(FLOAT) for a in arrays]


def function(mode, algorithm):
    def call(theta, phi, g, kernel=None):
        return non_local(theta, phi, g, mode, concat_kernel=kernel, algorithm=algorithm)

    return call


def check_against_dense(mode, algorithm, arrays, rtol=RTOL):
    """Values and gradients, each to `rtol` of its largest magnitude."""
    form, dense = function(mode, algorithm), function(mode, "dense")
    expected = to_numpy(dense(*arrays)).astype("float64")
    assert_close(form(*arrays), expected, rtol)
    cotangent = np.random.default_rng(9).normal(size=expected.shape).astype(FLOAT)
    actual, expected = (
        gradients(lambda *t, f=f: ops.sum(ops.multiply(f(*t), cotangent)), arrays)
        for f in (form, dense)
    )
    for k, (a, e) in enumerate(zip(actual, expected, strict=True)):
        floor = rounding_scale(mode, arrays, k) if k < 2 else 0.0
        largest = max(np.abs(e).max(), floor, 1e-30)
        np.testing.assert_allclose(a, e, rtol=0, atol=rtol * largest)


def rounding_scale(mode, arrays, k):
    """The terms that cancel in a softmax's gradient, completely with a single key."""
    if "gaussian" not in mode:
        return 0.0
    return np.abs(arrays[1 - k]).max() * np.abs(arrays[2]).max()


@pytest.mark.parametrize(("mode", "algorithm"), FORMS)
@pytest.mark.parametrize(
    ("batch", "n", "m"), [(1, 1, 1), (2, 1, 7), (2, 9, 1), (1, 40, 13), (3, 37, 70)]
)
def test_equals_the_dense_form(mode, algorithm, batch, n, m):
    check_against_dense(mode, algorithm, operands(mode, batch, n, m, 5, 6))


@pytest.mark.parametrize("mode", ["gaussian", "embedded_gaussian"])
@pytest.mark.parametrize("num_queries", [1100, 1104])
def test_several_slices_equal_the_dense_form(mode, num_queries):
    """8 slices of 138 queries, with and without padding."""
    assert chunks.chunk_rows(2, num_queries, 2000) == 138
    check_against_dense(mode, "chunked", operands(mode, 2, num_queries, 2000, 5, 6))


@pytest.mark.parametrize(("mode", "algorithm"), FORMS)
def test_equals_the_equations(mode, algorithm):
    arrays = operands(mode, 2, 11, 7, 4, 3)
    kernel = arrays[3] if len(arrays) > 3 else None
    expected = reference.non_local(*arrays[:3], mode, concat_kernel=kernel)
    assert_close(function(mode, algorithm)(*arrays), expected)


# JAX compiles each new shape.
EXAMPLES = 10 if keras.backend.backend() == "jax" else 40


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(
    form=st.sampled_from(FORMS),
    batch=st.integers(1, 3),
    n=st.integers(1, 20),
    m=st.integers(1, 80),
    size=st.sampled_from([0.0, 1e-20, 1e-3, 1.0, 1e4, 1e12]),
    ties=st.booleans(),
    seed=st.integers(0, 9),
)
@example(("concatenation", "sorted"), 2, 20, 80, 1.0, True, 0)
def test_equals_the_dense_form_anywhere(form, batch, n, m, size, ties, seed):
    mode, algorithm = form
    if "gaussian" in mode:
        size = min(size, 1e4)
    arrays = operands(mode, batch, n, m, 3, 4, seed, size, ties)
    # Rounding of a logit, which exp() amplifies by the size of the logit.
    growth = max(1.0, size) if "gaussian" in mode else 1.0
    check_against_dense(mode, algorithm, arrays, RTOL * growth)


def test_pairs_that_cancel_exactly_have_the_dense_subgradient():
    arrays = operands("concatenation", 2, 30, 30, 3, 4, ties=True)
    pairs = arrays[0].sum(-1)[:, :, None] + arrays[1].sum(-1)[:, None]
    assert (pairs == 0).mean() > 0.05
    check_against_dense("concatenation", "sorted", arrays)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_sorted_sums_stay_accurate_over_a_hundred_thousand_keys(offset):
    rng = np.random.default_rng(0)
    m = 100_000
    a = rng.normal(size=50) - offset
    b = rng.normal(size=m) + offset
    g = rng.normal(size=(m, 4)) + 1.0
    a, b, g = (t.astype("float32").astype("float64") for t in (a, b, g))
    expected = np.maximum(a[:, None] + b, 0) @ g / m
    theta, phi = (t.astype("float32")[None, :, None] for t in (a, b))
    kernel = np.ones((2, 1), "float32")
    y = non_local(
        theta,
        phi,
        g.astype("float32")[None],
        "concatenation",
        concat_kernel=kernel,
        algorithm="sorted",
    )
    # Each a_i + b_j may itself be rounded by 2^-24 of its terms.
    assert_close(to_numpy(y)[0], expected, 1e-6 + offset * 2.0**-24)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 5000])
def test_prefix_sums(length, reverse):
    x = np.random.default_rng(0).normal(size=(2, length, 3)).astype(FLOAT)
    step = -1 if reverse else 1
    expected = np.cumsum(x.astype("float64")[:, ::step], axis=1)[:, ::step]
    assert_close(prefix_sums(x, reverse), expected)


@pytest.mark.parametrize(("mode", "algorithm"), FORMS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_as_close_as_the_dense_form(mode, algorithm, dtype):
    arrays = operands(mode, 2, 60, 50, 16, 8)
    half = [ops.cast(a, dtype) for a in arrays]
    rounded = [to_numpy(ops.cast(t, FLOAT)) for t in half]
    exact = to_numpy(function(mode, "dense")(*rounded)).astype("float64")

    def error(algorithm):
        y = function(mode, algorithm)(*half)
        assert keras.backend.standardize_dtype(y.dtype) == dtype
        return np.abs(to_numpy(ops.cast(y, "float32")) - exact).max()

    step = 2.0**-8 if dtype == "bfloat16" else 2.0**-11
    assert error(algorithm) <= error("dense") + step * np.abs(exact).max()


@pytest.mark.parametrize(("mode", "algorithm"), FORMS)
@pytest.mark.parametrize("where", ["theta", "phi", "g"])
def test_a_nan_is_never_hidden(mode, algorithm, where):
    arrays = operands(mode, 1, 9, 8, 3, 2)
    arrays[["theta", "phi", "g"].index(where)][0, 4, 1] = np.nan
    dense = np.isnan(to_numpy(function(mode, "dense")(*arrays)))
    form = np.isnan(to_numpy(function(mode, algorithm)(*arrays)))
    assert dense.any() and form[dense].all()
    dense, form = (
        gradients(lambda *t, f=f: ops.sum(f(*t)), arrays)[2]
        for f in (function(mode, "dense"), function(mode, algorithm))
    )
    assert np.isnan(form[np.isnan(dense)]).all()


@pytest.mark.parametrize(("mode", "algorithm"), FORMS)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_operands_of_several_dtypes_give_the_dtype_of_g(mode, algorithm, which):
    arrays = operands(mode, 1, 9, 8, 3, 2)
    expected = to_numpy(function(mode, "dense")(*arrays)).astype("float64")
    arrays[which] = ops.cast(arrays[which], "bfloat16")
    y = function(mode, algorithm)(*arrays)
    assert keras.backend.standardize_dtype(y.dtype) == (
        "bfloat16" if which == 2 else FLOAT
    )
    assert_close(ops.cast(y, FLOAT), expected, 2.0**-5)
    found = gradients(
        lambda *t: ops.sum(function(mode, algorithm)(*t)), operands(mode, 1, 9, 8, 3, 2)
    )
    assert all(np.isfinite(t).all() for t in found)


@pytest.mark.parametrize("queries", [(), (3,), range(9)])
@pytest.mark.parametrize("keys", [(), (0, 5), range(8)])
def test_minus_infinity_leaves_pairs_out_of_the_sorted_form(queries, keys):
    a, b, g = (t.astype(FLOAT) for t in operands("dot_product", 2, 9, 8, 1, 3)[:3])
    a, b = a[..., 0], b[..., 0]
    a[1, list(queries)] = b[:, list(keys)] = -np.inf
    dense = np.maximum(a[:, :, None] + b[:, None], 0) @ g
    assert_close(sorted_relu(a, b, g), dense)
    found = gradients(lambda *t: ops.sum(sorted_relu(*t)), [a, b, g])
    taken = (a[:, :, None] + b[:, None] > 0).astype(FLOAT)  # (2, 9, 8)
    total = g.sum(axis=-1)
    assert_close(found[0], (taken * total[:, None]).sum(axis=2))
    assert_close(found[1], taken.sum(axis=1) * total)
    weights = np.maximum(a[:, :, None] + b[:, None], 0).sum(axis=1)
    assert_close(found[2], np.repeat(weights[..., None], 3, axis=-1))


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="not differentiated twice")
@pytest.mark.parametrize(("mode", "algorithm"), FORMS)
def test_second_derivatives_are_right_or_refused(mode, algorithm):
    arrays = operands(mode, 1, 9, 8, 3, 2)
    if keras.backend.backend() == "tensorflow":
        found = [
            second_order_in_tensorflow(mode, a, arrays) for a in (algorithm, "dense")
        ]
    else:
        try:
            found = [
                second_order_in_torch(mode, a, arrays) for a in (algorithm, "dense")
            ]
        except NotImplementedError as error:
            assert "Use algorithm='dense'" in str(error)
            return
    for actual, expected in zip(*found, strict=True):
        assert_close(actual, to_numpy(expected).astype("float64"), 10 * RTOL)


def second_order_in_tensorflow(mode, algorithm, arrays):
    import tensorflow as tf

    tensors = [tf.constant(a) for a in arrays]
    with tf.GradientTape() as outer:
        outer.watch(tensors)
        with tf.GradientTape() as inner:
            inner.watch(tensors)
            y = ops.sum(ops.square(function(mode, algorithm)(*tensors)))
        penalty = ops.sum(ops.square(inner.gradient(y, tensors[2])))
    return outer.gradient(penalty, tensors)


def second_order_in_torch(mode, algorithm, arrays):
    import torch

    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = function(mode, algorithm)(*tensors).square().sum()
    (gradient,) = torch.autograd.grad(y, tensors[2], create_graph=True)
    return torch.autograd.grad(gradient.square().sum(), tensors)


@pytest.mark.parametrize(
    ("mode", "algorithm"),
    [("gaussian", "linear"), ("dot_product", "sorted"), ("concatenation", "chunked")],
)
def test_a_form_of_another_mode_is_refused(mode, algorithm):
    arrays = operands(mode, 1, 4, 4, 2, 2)
    with pytest.raises(ValueError, match="is not a form of mode"):
        function(mode, algorithm)(*arrays)
