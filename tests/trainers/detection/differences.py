"""Gradients by central differences, in float64."""

import numpy as np
import tensorflow as tf


def numeric_gradient(function, x, step=1e-6):
    """Gradient of a scalar function of one array, number by number."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[index] += sign * step
            ends.append(float(function(tf.constant(moved))))
        gradient[index] = (ends[0] - ends[1]) / (2 * step)
    return gradient


def assert_gradient(function, x):
    """Asserts that the gradient of `function` at `x` (float64) is its slope."""
    value = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(value)
        result = function(value)
    gradient = tape.gradient(result, value).numpy()
    assert np.abs(gradient).max() > 0
    expected = numeric_gradient(function, x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8)
