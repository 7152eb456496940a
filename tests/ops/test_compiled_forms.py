"""The forms in graphs and under XLA, with static and dynamic sizes."""

import keras
import numpy as np
import pytest

from tests.backends import FLOAT, RTOL, gradients, to_numpy
from tests.ops.test_forms import FORMS, function, operands

BACKEND = keras.backend.backend()
TIERS = [
    # The mode `gaussian` is computed as `embedded_gaussian` is.
    pytest.param(*form, marks=[pytest.mark.slow] * (form[0] == "gaussian"))
    for form in FORMS
]


def sizes_of(algorithm):
    """Batch, N and M; of several slices in the chunked form."""
    return (2, 1100, 2000) if algorithm == "chunked" else (2, 20, 70)


def loss(call):
    return lambda *t: keras.ops.sum(keras.ops.square(call(*t)))


def check(compiled_gradients, mode, arrays, rtol=RTOL):
    expected = gradients(loss(function(mode, "dense")), arrays)
    for a, e in zip(compiled_gradients, expected, strict=True):
        np.testing.assert_allclose(to_numpy(a), e, rtol=0, atol=rtol * np.abs(e).max())


@pytest.mark.skipif(BACKEND != "tensorflow", reason="graphs of TensorFlow")
@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), None])
@pytest.mark.parametrize(
    ("mode", "algorithm"),
    [*TIERS, pytest.param("concatenation", "auto", marks=pytest.mark.slow)],
)
def test_graphs_of_unknown_size(mode, algorithm, batch):
    import tensorflow as tf

    arrays = operands(mode, 1 if batch else 3, 20, 70, 3, 4)
    specs = [tf.TensorSpec((batch, None, a.shape[-1]), FLOAT) for a in arrays[:3]]
    specs += [tf.TensorSpec(a.shape, FLOAT) for a in arrays[3:]]

    @tf.function(input_signature=specs)
    def step(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = loss(function(mode, algorithm))(*tensors)
        return tape.gradient(value, tensors)

    check(step(*arrays), mode, arrays)
    larger = operands(mode, 1 if batch else 2, 33, 5, 3, 4)  # the same graph
    check(step(*larger), mode, larger)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="XLA under TensorFlow")
@pytest.mark.parametrize(("mode", "algorithm"), TIERS)
def test_xla_from_tensorflow(mode, algorithm):
    import tensorflow as tf

    arrays = operands(mode, *sizes_of(algorithm), 3, 4)

    @tf.function(jit_compile=True)
    def step(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = loss(function(mode, algorithm))(*tensors)
        return tape.gradient(value, tensors)

    check(step(*map(tf.constant, arrays)), mode, arrays)


@pytest.mark.backends
@pytest.mark.skipif(BACKEND != "jax", reason="jax.jit")
@pytest.mark.parametrize(("mode", "algorithm"), FORMS)
def test_jit_of_jax(mode, algorithm):
    import jax

    arrays = operands(mode, *sizes_of(algorithm), 3, 4)
    argnums = tuple(range(len(arrays)))
    step = jax.jit(jax.grad(loss(function(mode, algorithm)), argnums=argnums))
    check(step(*arrays), mode, arrays)


@pytest.mark.backends
@pytest.mark.skipif(BACKEND != "jax", reason="jax.export")
@pytest.mark.parametrize("axes", ["b, 2200", "b, n"])
@pytest.mark.parametrize(("mode", "algorithm"), [*FORMS, ("embedded_gaussian", "auto")])
def test_export_of_jax(mode, algorithm, axes):
    """Symbols for the batch and the queries; of the chunked form, several slices."""
    import jax

    num_keys = 1000 if mode == "embedded_gaussian" else 20
    arrays = operands(mode, 2, 2200, num_keys, 3, 4)
    batch = axes.split(",")[0]
    names = [axes, f"{batch}, {num_keys}", f"{batch}, {num_keys}"]
    scope = jax.export.SymbolicScope()
    specs = [
        jax.ShapeDtypeStruct(
            jax.export.symbolic_shape(f"{name}, {array.shape[-1]}", scope=scope), FLOAT
        )
        for name, array in zip(names, arrays, strict=False)
    ]
    specs += [jax.ShapeDtypeStruct(a.shape, FLOAT) for a in arrays[3:]]
    exported = jax.export.export(jax.jit(function(mode, algorithm)))(*specs)
    for batch in (1, 2):
        some = [a[:batch] for a in arrays[:3]] + arrays[3:]
        expected = to_numpy(function(mode, "dense")(*some))
        found = exported.call(*some)
        np.testing.assert_allclose(found, expected, atol=RTOL * np.abs(expected).max())
