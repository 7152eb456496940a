"""The non-local operation: shapes, operands, and the forms that are measured.

Peers are written from the published formulas. Each takes theta (B, N, d), phi, g
(B, M, d) and, for the concatenation, w_f (2 d, 1), and returns y (B, N, d). phi is
(B, d, M) for forms that receive it in that layout from a 1x1x1 convolution
(`KEYS_LAST`).
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from harness.process import THREADS, Made

GAUSSIAN = ("gaussian", "embedded_gaussian")
SCALED = "embedded_gaussian"
MODES = (*GAUSSIAN, "dot_product", "concatenation")


# === Shapes and operands ===


class OpShape(NamedTuple):
    """`queries` N, `keys` M, `channels` d of theta, phi and g."""

    queries: int
    keys: int
    channels: int

    def __str__(self):
        return f"N = {self.queries:,}, M = {self.keys:,}, d = {self.channels}"


# 8x8 and 32x2 clips of 224x224 reach res3 and res4 with the same maps, 4x28x28 and
# 4x14x14 (python -m keras_nonlocal.describe i3d --stem 32x2); clip32 is a 32x28x28
# map. Sub-sampled keys first, all positions as keys ("-full") second.
NAMED_SHAPES = {
    "res3": OpShape(4 * 28 * 28, 4 * 14 * 14, 256),
    "res3-full": OpShape(4 * 28 * 28, 4 * 28 * 28, 256),
    "res4": OpShape(4 * 14 * 14, 4 * 7 * 7, 512),
    "res4-full": OpShape(4 * 14 * 14, 4 * 14 * 14, 512),
    "clip32": OpShape(32 * 28 * 28, 32 * 14 * 14, 256),
    "clip32-full": OpShape(32 * 28 * 28, 32 * 28 * 28, 256),
}


def parse_shape(text):
    """`"res3"` or `"3136x784x256"` (N, M, d) to an `OpShape`."""
    if text in NAMED_SHAPES:
        return NAMED_SHAPES[text]
    try:
        shape = OpShape(*(int(size) for size in text.split("x")))
    except (TypeError, ValueError):
        shape = None
    if shape is None or min(shape) < 1:
        raise ValueError(
            f"Unknown shape {text!r}. Expected one of {', '.join(NAMED_SHAPES)}, or "
            "NxMxd such as 3136x784x256."
        )
    return shape


def operands(shape, mode):
    """theta, phi, g (and w_f in mode concatenation), and the gradient of y.

    All are multiples of 1/8, so that sums over channels are exact in any order, and
    rounding moves no pair of the concatenation across the kink of the ReLU.
    """
    rng = np.random.default_rng(0)
    tensors = [eighths(rng, size) for size in _sizes(shape, mode)]
    return tensors, eighths(rng, (1, shape.queries, shape.channels))


def eighths(rng, size):
    """Normal values, rounded to multiples of 1/8: exact in bfloat16, too."""
    normal = rng.standard_normal(size, dtype="float32")
    return np.clip(np.round(8 * normal) / 8, -4, 4)


def tensors_mib(shape, mode, dtype):
    """MiB of the operands and dy; as many as of the gradients and y."""
    numbers = shape.queries * shape.channels
    numbers += sum(math.prod(size) for size in _sizes(shape, mode))
    return numbers * {"float32": 4, "bfloat16": 2}[dtype] / 2**20


def _sizes(shape, mode):
    n, m, d = shape
    embedded = 2 * d if mode == "gaussian" else d  # theta and phi are x itself
    sizes = [(1, n, embedded), (1, m, embedded), (1, m, d)]
    return [*sizes, (2 * d, 1)] if mode == "concatenation" else sizes


def relative_error(results, expected):
    """Largest ||result - expected|| / ||expected|| of the tensors.

    None where one side has none: it was not measured, or memory ran out.
    """
    if not (results and expected):
        return None
    return max(
        float(np.linalg.norm(r - e) / np.linalg.norm(e))
        for r, e in zip(results, expected, strict=True)
    )


# === Forms ===


def published(mode, theta, phi, g, kernel=None):
    """PyTorch: the whole map; the concatenation forms all pairs, (B, 2d, N, M)."""
    import torch

    if mode == "concatenation":
        num_queries, num_keys = theta.shape[1], phi.shape[2]
        queries = theta.transpose(1, 2).unsqueeze(3)  # (B, d, N, 1)
        keys = phi.unsqueeze(2)  # (B, d, 1, M)
        pairs = torch.cat(
            [queries.repeat(1, 1, 1, num_keys), keys.repeat(1, 1, num_queries, 1)],
            dim=1,
        )
        f = torch.nn.functional.conv2d(pairs, kernel.reshape(1, -1, 1, 1))
        return torch.relu(f).squeeze(1) / num_keys @ g
    f = theta @ phi  # (B, N, M)
    if mode == "dot_product":
        return f / f.shape[-1] @ g
    if mode == SCALED:
        f = f * theta.shape[-1] ** -0.5
    return torch.softmax(f, dim=-1) @ g


def broadcast(mode, theta, phi, g, kernel):
    """PyTorch: the concatenation's map as relu(a_i + b_j), without the pairs."""
    import torch

    channels = theta.shape[-1]
    a = theta @ kernel[:channels]  # (B, N, 1)
    b = kernel[channels:].T @ phi  # (B, 1, M)
    return torch.relu(a + b) / phi.shape[-1] @ g


def scaled_dot_product_attention(mode, theta, phi, g):
    """PyTorch's fused kernel."""
    import torch

    scale = None if mode == SCALED else 1.0
    query, key, value = (t.unsqueeze(1) for t in (theta, phi, g))  # one head
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(query, key, value, scale=scale).squeeze(1)


def naive_keras(mode, theta, phi, g, kernel=None):
    """keras.ops: the whole map, line by line."""
    from keras import ops

    channels = theta.shape[-1]
    if mode == "concatenation":
        a = ops.matmul(theta, kernel[:channels])  # (B, N, 1)
        b = ops.matmul(phi, kernel[channels:])  # (B, M, 1)
        f = ops.relu(a + ops.transpose(b, (0, 2, 1))) / phi.shape[1]
        return ops.matmul(f, g)
    f = ops.matmul(theta, ops.transpose(phi, (0, 2, 1)))  # (B, N, M)
    if mode == "dot_product":
        return ops.matmul(f / phi.shape[1], g)
    if mode == SCALED:
        f = f * channels**-0.5
    return ops.matmul(ops.softmax(f, axis=-1), g)


KEYS_LAST = (published, broadcast)


def ours(algorithm, mode, theta, phi, g, kernel=None):
    from keras_nonlocal.ops import non_local

    scale = theta.shape[-1] ** -0.5 if mode == "embedded_gaussian" else None
    return non_local(
        theta, phi, g, mode, scale=scale, concat_kernel=kernel, algorithm=algorithm
    )


class Form(NamedTuple):
    """A form of the operation: how it is called, and for which modes."""

    label: str
    framework: str
    function: Callable
    modes: tuple = MODES
    is_compiled: bool = False


PEERS = {
    "published": Form("PyTorch, published", "torch", published),
    "broadcast": Form("PyTorch, broadcast", "torch", broadcast, ("concatenation",)),
    "sdpa": Form("PyTorch, SDPA", "torch", scaled_dot_product_attention, GAUSSIAN),
    "compile": Form(
        "torch.compile, published",
        "torch",
        published,
        (*GAUSSIAN, "dot_product"),
        is_compiled=True,
    ),
    # The published concatenation rarely fits into memory: its best dense form instead.
    "compile-broadcast": Form(
        "torch.compile, broadcast",
        "torch",
        broadcast,
        ("concatenation",),
        is_compiled=True,
    ),
    "keras": Form("keras.ops, dense", "tensorflow", naive_keras),
}


def form(key):
    """The peer `key`, or `non_local` for `"ours:<algorithm>"`."""
    owner, _, algorithm = key.partition(":")
    if owner != "ours":
        return PEERS[key]
    label = "ours" if algorithm == "auto" else f"ours, {algorithm}"
    return Form(label, "tensorflow", functools.partial(ours, algorithm))


# === In the process of a subject ===


def make(key, mode, dtype, sizes):
    """A form on the operands of the shape `sizes`: forward, and forward + backward.

    The values are y of the first; y and the gradients of theta, phi, g (and w_f) of
    the second; keys as (B, M, d).
    """
    shape, built = OpShape(*sizes), form(key)
    steps = {"torch": _torch_steps, "tensorflow": _tensorflow_steps}[built.framework]
    forward, both, to_numpy = steps(built, mode, *operands(shape, mode), dtype)
    return Made(
        {"forward": forward, "forward + backward": both},
        lambda: [*to_numpy([forward()]), *to_numpy(both())],
        tensors_mib(shape, mode, dtype),
    )


def smallest(key, mode, dtype, sizes):
    """Arguments of `make` for a small problem."""
    return key, mode, dtype, (96, 24, 16)


def _torch_steps(form, mode, tensors, dy, dtype):
    import torch

    torch.set_num_threads(THREADS)
    keys_last = form.function in KEYS_LAST

    def swap_keys(index, tensor):
        return tensor.transpose(1, 2) if index == 1 and keys_last else tensor

    leaves = [
        swap_keys(i, torch.from_numpy(t))
        .to(getattr(torch, dtype))
        .contiguous()
        .requires_grad_()
        for i, t in enumerate(tensors)
    ]
    dy = torch.from_numpy(dy).to(getattr(torch, dtype))
    function = functools.partial(form.function, mode)
    if form.is_compiled:
        function = torch.compile(function, dynamic=False)

    def forward():
        with torch.no_grad():
            return function(*leaves)

    def forward_backward():
        y = function(*leaves)
        return y.detach(), *torch.autograd.grad(y, leaves, dy)

    def to_numpy(results):
        y, *gradients = results
        gradients = [swap_keys(i, t) for i, t in enumerate(gradients)]
        return [t.float().numpy() for t in (y, *gradients)]

    return forward, forward_backward, to_numpy


def _tensorflow_steps(form, mode, tensors, dy, dtype):
    import keras  # noqa: F401  here, not while a graph is traced
    import tensorflow as tf

    as_dtype = tf.as_dtype(dtype).as_numpy_dtype
    *tensors, dy = (tf.constant(t.astype(as_dtype)) for t in (*tensors, dy))
    run = tf.function(functools.partial(form.function, mode))

    @tf.function
    def train(dy, *tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = form.function(mode, *tensors)
        # y is returned, or its last product would be pruned from the graph.
        return y, *tape.gradient(y, tensors, dy)

    def to_numpy(results):
        return [tf.cast(t, "float32").numpy() for t in results]

    return lambda: run(*tensors), lambda: train(dy, *tensors), to_numpy
