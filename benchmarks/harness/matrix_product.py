"""A large matrix product: its rate is the upper limit of a network's."""

import numpy as np

from harness.process import THREADS, Made


def make(framework, dtype, side):
    """The product of two squares, in `"tensorflow"`, `"jax"` or `"torch"`."""
    square = np.random.default_rng(0).standard_normal((side, side), dtype="float32")
    return Made({"product": _PRODUCTS[framework](square, dtype)})


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

    torch.set_num_threads(THREADS)
    x = torch.from_numpy(square).to(getattr(torch, dtype))
    x = x.cuda() if torch.cuda.is_available() else x

    def multiply():
        x @ x
        if x.is_cuda:
            torch.cuda.synchronize()

    return multiply


_PRODUCTS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
