"""Convolutions in graphs with maps of dynamic size."""

import keras
import numpy as np
import pytest

from keras_nonlocal.ops.convolution import conv


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs")
@pytest.mark.parametrize("shape", [(1, 2, 4, 4, 32), (1, 2, 3, 5, 32)])
def test_bfloat16_gradients_of_maps_of_unknown_size(shape):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    dtype = tf.bfloat16
    x = tf.cast(rng.normal(size=shape), dtype)
    kernel = tf.cast(rng.normal(size=(3, 3, 3, shape[-1], 6)), dtype)
    cotangent = tf.cast(rng.normal(size=(*shape[:-1], 6)), dtype)

    def gradients(x, cotangent):
        with tf.GradientTape() as tape:
            wide = tf.cast(kernel, x.dtype)
            tape.watch([x, wide])
            y = conv(x, wide, (1, 1, 1), training=True)
        return tape.gradient(y, [x, wide], cotangent)

    specs = [tf.TensorSpec((None,) * 4 + (n,), dtype) for n in (shape[-1], 6)]
    actual = tf.function(gradients, input_signature=specs)(x, cotangent)
    expected = gradients(tf.cast(x, tf.float32), tf.cast(cotangent, tf.float32))
    for a, e in zip(actual, expected, strict=True):
        error = tf.reduce_max(tf.abs(tf.cast(a, tf.float32) - e))
        assert error < 2e-2 * tf.reduce_max(tf.abs(e))
