import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_nonlocal.ops import attention_scores, non_local
from tests import reference
from tests.backends import FLOAT, RTOL, assert_close, gradients, to_numpy

MODES = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")


def operands(mode, batch=2, n=5, m=3, d=4, d_g=6, seed=0):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=s) for s in ((batch, n, d), (batch, m, d))]
    arrays.append(rng.normal(size=(batch, m, d_g)))
    kernel = rng.normal(size=(2 * d, 1)) if mode == "concatenation" else None
    kernel = None if kernel is None else kernel.astype(FLOAT)
    return [a.astype(FLOAT) for a in arrays], kernel


@pytest.mark.parametrize("mode", MODES)
def test_equals_the_equations(mode):
    (theta, phi, g), kernel = operands(mode)
    expected = reference.non_local(theta, phi, g, mode, concat_kernel=kernel)
    actual = non_local(theta, phi, g, mode, concat_kernel=kernel)
    assert_close(actual, expected)


@pytest.mark.parametrize("mode", MODES)
def test_scores_equal_the_equations(mode):
    (theta, phi, _), kernel = operands(mode)
    expected = reference.attention_scores(theta, phi, mode, concat_kernel=kernel)
    actual = attention_scores(theta, phi, mode, concat_kernel=kernel)
    assert_close(actual, expected)


def test_scale_multiplies_the_exponent():
    (theta, phi, g), _ = operands("embedded_gaussian")
    expected = reference.non_local(theta, phi, g, "embedded_gaussian", scale=0.3)
    assert_close(non_local(theta, phi, g, scale=0.3), expected)


@pytest.mark.parametrize("num_keys", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_gradients_equal_finite_differences_of_the_equations(mode, num_keys):
    arrays, kernel = operands(mode, batch=1, n=3, m=num_keys, d=2, d_g=2)
    arrays = [a.astype("float64") for a in [*arrays, kernel] if a is not None]
    cotangent = np.random.default_rng(1).normal(size=(1, 3, 2))

    def loss(theta, phi, g, kernel=None):
        y = non_local(theta, phi, g, mode, concat_kernel=kernel)
        return ops.sum(ops.multiply(y, cotangent.astype(FLOAT)))

    def reference_loss(arrays):
        theta, phi, g, *rest = arrays
        y = reference.non_local(
            theta, phi, g, mode, concat_kernel=rest[0] if rest else None
        )
        return float((y * cotangent).sum())

    for k, actual in enumerate(gradients(loss, arrays)):
        for index in np.ndindex(arrays[k].shape):
            moved = [[a.copy() for a in arrays] for _ in range(2)]
            moved[0][k][index] += 1e-6
            moved[1][k][index] -= 1e-6
            slope = (reference_loss(moved[0]) - reference_loss(moved[1])) / 2e-6
            assert abs(actual[index] - slope) <= max(1e-7, 10 * RTOL)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    mode=st.sampled_from(MODES),
    n=st.integers(1, 6),
    m=st.integers(1, 6),
    size=st.sampled_from([0.0, 1e-20, 1.0, 1e3]),
    seed=st.integers(0, 9),
)
def test_equals_the_equations_for_any_shape_and_size(mode, n, m, size, seed):
    (theta, phi, g), kernel = operands(mode, n=n, m=m, seed=seed)
    theta = theta * size
    expected = reference.non_local(theta, phi, g, mode, concat_kernel=kernel)
    actual = non_local(theta, phi, g, mode, concat_kernel=kernel)
    # exp() magnifies the rounding of a logit by the size of the logit.
    assert_close(actual, expected, RTOL * max(1.0, size))


@pytest.mark.parametrize("mode", MODES)
def test_queries_permute_with_the_output_and_keys_do_not_matter(mode):
    (theta, phi, g), kernel = operands(mode)
    y = to_numpy(non_local(theta, phi, g, mode, concat_kernel=kernel))
    queries, keys = np.array([3, 1, 4, 0, 2]), np.array([2, 0, 1])
    permuted = non_local(
        theta[:, queries], phi[:, keys], g[:, keys], mode, concat_kernel=kernel
    )
    assert_close(permuted, y[:, queries])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_stays_finite_and_close(mode, dtype):
    (theta, phi, g), kernel = operands(mode, n=40, m=30, d=64)
    theta, phi = theta * 40, phi * 40  # theta . phi leaves float16's range
    if mode == "embedded_gaussian":
        theta, phi = theta / 40, phi / 40
    half = [ops.cast(t, dtype) for t in (theta, phi, g)]
    rounded = [to_numpy(ops.cast(t, "float64")) for t in half]
    expected = reference.non_local(*rounded, mode, concat_kernel=kernel)
    actual = to_numpy(ops.cast(non_local(*half, mode, concat_kernel=kernel), "float64"))
    step = 2.0**-8 if dtype == "bfloat16" else 2.0**-11
    # Rounded logits move a softmax weight by at most their own error.
    logits = np.abs(rounded[0] @ rounded[1].swapaxes(1, 2)).max()
    growth = 8 * max(1.0, logits if mode == "embedded_gaussian" else 1.0)
    assert np.abs(actual - expected).max() <= step * growth * np.abs(expected).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "embeded_gaussian"}, "Did you mean 'embedded_gaussian'"),
        ({"algorithm": "fast"}, "Invalid value for argument `algorithm`"),
        ({"mode": "dot_product", "scale": 0.5}, "belongs to the Gaussian modes"),
        ({"mode": "concatenation"}, r"needs `concat_kernel` of shape \(2 \* 4, 1\)"),
        ({"concat_kernel": np.ones((8, 1))}, "belongs to mode='concatenation'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    (theta, phi, g), _ = operands("gaussian")
    with pytest.raises(ValueError, match=message):
        non_local(theta, phi, g, **arguments)


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 5, 4), (2, 3, 5), (2, 3, 6)),
        ((2, 5, 4), (2, 3, 4), (2, 5, 6)),
        ((1, 5, 4), (2, 3, 4), (2, 3, 6)),
        ((5, 4), (2, 3, 4), (2, 3, 6)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match=r"expected theta \(B, N, d\), phi"):
        non_local(*(np.ones(shape, "float32") for shape in shapes))
