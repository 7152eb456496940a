"""Peak memory of training in parts, and of training that recomputes.

python -m tests.trainers.core.memory

Prints MiB by which the process has grown after each of four steps. A peak stays,
so those that need little come first.
"""

import functools
import pathlib

import keras
import tensorflow as tf

from trainers.core.accumulation import accumulate, part_of
from trainers.core.recomputation import RecomputedModel

BLOCKS, LAYERS = 8, 8
PARTS = 8
SIZE = 2**20


def deep_model():
    """64 activations of 8 MiB, for a batch of 2."""
    inputs = x = keras.Input((SIZE,))
    for i in range(BLOCKS):
        for j in range(LAYERS):
            x = keras.layers.Activation("tanh", name=f"block{i}_{j}")(x)
    return keras.Model(inputs, x)


def recomputed(model):
    return RecomputedModel(model, [f"block{i}_{LAYERS - 1}" for i in range(BLOCKS - 1)])


def gradient_by_clips(network, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = network(x, training=True)
    return tape.gradient(y, x)


def gradient_of_parts(num_parts, weight, x):
    """8 activations and as many products of 64 MiB, for a batch of 16 at once."""

    def compute(index, x):
        y = part_of(x, index, num_parts)
        with tf.GradientTape() as tape:
            for _ in range(LAYERS):
                y = tf.tanh(weight * y)
        return tape.gradient(y, weight)

    return accumulate(tf.distribute.get_strategy(), compute, num_parts, (x,))


def status_mib(key):
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition(f"{key}:")[2].split()[0]) / 1024


def main():
    model, weight = deep_model(), tf.Variable(1.0)
    clips = tf.random.normal((2, SIZE))
    batch = tf.random.normal((2 * PARTS, SIZE))
    steps = [
        functools.partial(gradient_by_clips, recomputed(model), clips),
        functools.partial(gradient_of_parts, PARTS, weight, batch),
        functools.partial(gradient_by_clips, model, clips),
        functools.partial(gradient_of_parts, 1, weight, batch),
    ]
    idle = status_mib("VmRSS")
    for step in map(tf.function, steps):
        step()
        print(status_mib("VmHWM") - idle)


if __name__ == "__main__":
    main()
