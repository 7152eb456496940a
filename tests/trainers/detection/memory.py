"""Peak memory of the parts of a training step of detection.

python -m tests.trainers.detection.memory

Prints MiB by which the process grows in each of four steps.
"""

import pathlib

import keras
import tensorflow as tf

from keras_nonlocal.layers import FrozenBatchNorm, PaddedConv2D
from keras_nonlocal.ops import multilevel_roi_align
from tests.trainers.core.memory import status_mib
from trainers.core.config_definitions import SGDConfig
from trainers.core.optimization import SGD, apply_global_gradients, build_for

MAP = (1, 128, 128, 128)  # 8 MiB


def roi_align():
    """The result is 24 MiB; its points would be 98, and so would their gradient."""
    maps = [tf.ones((1, 32, 32, 256))] * 4
    corners = tf.random.stateless_uniform((1, 512, 2), (0, 1), 0, 64)
    boxes = tf.concat([corners, corners + 32], axis=-1)

    def step():
        with tf.GradientTape() as tape:
            tape.watch(maps)
            y = multilevel_roi_align(maps, boxes, 7)
        return tape.gradient(y, maps)

    return step


def frozen_norms():
    """8 results of 8 MiB, which are kept; their inputs would be as many more."""
    norms = [FrozenBatchNorm() for _ in range(8)]

    def run(x):
        for norm in norms:
            x = tf.square(norm(x, training=True))
        yield x

    return gradient_of(run)


def strided_convolutions():
    """8 inputs of 8 MiB, which are kept; padded they would be as many more."""
    convolutions = [PaddedConv2D(1, 3, 2, use_bias=False) for _ in range(8)]

    def run(x):
        for convolution in convolutions:
            x = tf.tanh(x)
            x += tf.reduce_sum(convolution(x, training=True))
        yield x

    return gradient_of(run)


def gradient_of(function):
    x = tf.ones(MAP)

    def step():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.add_n([tf.reduce_sum(y) for y in function(x)])
        return tape.gradient(y, x)

    return step


def weight_decay():
    """8 activations of 16 MiB; a copy of the weights would be 64 MiB."""
    inputs = x = keras.Input((1024,))
    x = keras.layers.Dense(2**14, use_bias=False)(x)
    for _ in range(8):
        x = keras.layers.Activation("tanh")(x)
    model, config = keras.Model(inputs, x), SGDConfig(weight_decay=0.1)
    optimizer, batch = SGD(0.1, 0.9), tf.ones((256, 1024))
    build_for(optimizer, model)

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(batch))
        gradients = tape.gradient(loss, model.trainable_variables)
        apply_global_gradients(optimizer, model, gradients, config=config)

    return step


def growth(step):
    """MiB of the second call."""
    step()
    idle = status_mib("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # begins a new peak
    step()
    return status_mib("VmHWM") - idle


if __name__ == "__main__":
    for make in (roi_align, frozen_norms, strided_convolutions, weight_decay):
        print(make.__name__, growth(tf.function(make())))
