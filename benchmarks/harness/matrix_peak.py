"""Rate of large matrix products on this machine: the upper limit of a network."""

import numpy as np

from harness import machine
from harness.measure import fastest
from harness.networks import backend

SIDE = {"cpu": 2048, "gpu": 8192}
SMALL = 256  # per attempt


def gflops(dtype, small=False):
    """GFLOP/s of a large square product, in the fastest framework."""
    side = SMALL if small else SIDE["gpu" if machine.gpu() else "cpu"]
    square = np.random.default_rng(0).standard_normal((side, side), dtype="float32")
    frameworks = [backend(), *["torch"] * machine.installed("torch")]
    steps = {name: _PRODUCTS[name](square, dtype) for name in frameworks}
    for step in steps.values():
        step()
    ms = min(fastest(steps, 15, 5).values())
    return 2 * side**3 / ms / 1e6


def _tensorflow(square, dtype):
    import tensorflow as tf

    x = tf.cast(square, dtype)
    return lambda: tf.matmul(x, x)


def _jax(square, dtype):
    import jax

    x = jax.numpy.asarray(square, dtype)
    multiply = jax.jit(lambda x: x @ x)
    return lambda: jax.block_until_ready(multiply(x))


def _torch(square, dtype):
    import torch

    x = torch.from_numpy(square).to(getattr(torch, dtype))
    x = x.cuda() if torch.cuda.is_available() else x

    def multiply():
        x @ x
        if x.is_cuda:
            torch.cuda.synchronize()

    return multiply


_PRODUCTS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
