"""Gradients on the current backend of Keras, for tests that run on all three."""

import keras
import numpy as np
from keras import ops

# keras.ops computes in float64 on TensorFlow only: elsewhere it returns float32.
FLOAT = "float64" if keras.backend.backend() == "tensorflow" else "float32"
RTOL = 1e-10 if FLOAT == "float64" else 2e-5


def assert_close(actual, expected, rtol=RTOL):
    """Asserts equality to `rtol` of the largest expected magnitude."""
    largest = max(np.abs(expected).max(), 1e-30)
    actual = to_numpy(actual).astype("float64")
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * largest)


def to_numpy(tensor):
    if keras.backend.backend() == "torch" and hasattr(tensor, "detach"):
        tensor = tensor.detach()
    return np.asarray(ops.convert_to_numpy(tensor))


def gradients(function, arrays, dtype=FLOAT):
    """d function / d array for a scalar `function`, computed in `dtype`."""
    arrays = [np.asarray(a, dtype) for a in arrays]
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        variables = [tf.Variable(a) for a in arrays]
        with tf.GradientTape() as tape:
            value = function(*[v.value() for v in variables])
        return [to_numpy(t) for t in tape.gradient(value, variables)]
    if backend == "jax":
        import jax

        grads = jax.grad(function, argnums=tuple(range(len(arrays))))(*arrays)
        return [to_numpy(t) for t in grads]
    import torch

    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    function(*tensors).backward()
    return [t.grad.numpy() for t in tensors]


def layer_gradients(layer, x, cotangent, **call_options):
    """d sum(layer(x) * cotangent) / d (x, trainable weights), by weight path."""
    names = [w.path.split("/", 1)[1] for w in layer.trainable_variables]

    def loss(x, *weights):
        values = list(zip(layer.trainable_variables, weights, strict=True))
        with keras.StatelessScope(state_mapping=values):
            y = layer(x, **call_options)
        y = ops.cast(y, layer.dtype)
        return ops.sum(ops.multiply(y, cotangent.astype(layer.dtype)))

    arrays = [np.asarray(x)] + [to_numpy(v) for v in layer.trainable_variables]
    grads = gradients(loss, arrays, layer.dtype)
    return dict(zip(["x", *names], grads, strict=True))
