"""Time of one non-local block, forward and backward, beside the same in PyTorch.

    python benchmarks/non_local_block.py [--repeats 15]

The PyTorch block is written from the published formulas of PySlowFast's (pool
before phi and g, 1x1x1 Conv3d, the whole attention map, batch norm). Both run in
this process, turn by turn, on the same cores; the figure is the ratio of medians.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from keras_nonlocal import NonLocal3D

# The maps of an 8x8 clip at 224x224: name, frames, side, channels.
SHAPES = [("res3", 4, 28, 512), ("res4", 4, 14, 1024)]
MODES = ("embedded_gaussian", "dot_product")


def keras_step(mode, shape):
    layer = NonLocal3D(mode=mode)
    layer.build((None, *shape[1:]))
    x = tf.Variable(keras.random.normal(shape))
    weights = [v.value for v in layer.trainable_variables]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True))
        return tape.gradient(loss, [x, *weights])

    return lambda: [g.numpy()[:1] for g in step()[:1]]


def torch_step(mode, shape):
    import torch

    batch, frames, height, width, channels = shape
    d = channels // 2
    conv = {n: torch.nn.Conv3d(channels, d, 1) for n in ("theta", "phi", "g")}
    w_z = torch.nn.Conv3d(d, channels, 1)
    norm = torch.nn.BatchNorm3d(channels)
    pool = torch.nn.MaxPool3d((1, 2, 2))
    x = torch.randn((batch, channels, frames, height, width), requires_grad=True)
    weights = [p for m in (*conv.values(), w_z, norm) for p in m.parameters()]

    def block():
        theta = conv["theta"](x).flatten(2).transpose(1, 2)  # (B, N, d)
        keys = pool(x)
        phi = conv["phi"](keys).flatten(2)  # (B, d, M)
        g = conv["g"](keys).flatten(2).transpose(1, 2)  # (B, M, d)
        f = theta @ phi  # (B, N, M)
        if mode == "dot_product":
            f = f / f.shape[-1]
        else:
            f = torch.softmax(f * d**-0.5, dim=-1)
        y = (f @ g).transpose(1, 2).reshape(batch, d, frames, height, width)
        return x + norm(w_z(y))

    return lambda: torch.autograd.grad(block().sum(), [x, *weights])


def medians(steps, repeats):
    """Median milliseconds of each step, run turn by turn."""
    times = {name: [] for name in steps}
    for turn in range(repeats + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn >= 2:  # the first turns trace and warm up
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(t) for name, t in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    try:
        import torch
    except ImportError:
        torch = None
        print("PyTorch is not installed (extra [backends]): our times only.\n")
    np.random.seed(0)
    print("| map | mode | ours, ms | PyTorch, ms | PyTorch / ours |")
    print("|---|---|---|---|---|")
    for name, frames, side, channels in SHAPES:
        for mode in MODES:
            shape = (1, frames, side, side, channels)
            steps = {"ours": keras_step(mode, shape)}
            if torch:
                steps["torch"] = torch_step(mode, shape)
            ms = medians(steps, repeats)
            row = f"| {name} | {mode} | {ms['ours']:.0f} |"
            if torch:
                ratio = ms["torch"] / ms["ours"]
                row += f" {ms['torch']:.0f} | {ratio:.2f} |"
            else:
                row += " - | - |"
            print(row)


if __name__ == "__main__":
    main()
