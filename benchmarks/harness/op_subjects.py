"""The measured forms of the operation, each as a forward and a training step."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from harness import op_peers

GAUSSIAN = ("gaussian", "embedded_gaussian")
MODES = (*GAUSSIAN, "dot_product", "concatenation")


class Steps(NamedTuple):
    """One form on given operands.

    `forward()` gives y, `forward_backward()` y and the gradients of theta, phi, g
    (and w_f); `to_numpy` makes a list in float32 of the latter, keys as (B, M, d).
    """

    forward: Callable
    forward_backward: Callable
    to_numpy: Callable


class Subject(NamedTuple):
    """A form of the operation: how it is called, and for which modes."""

    label: str
    framework: str
    function: Callable
    modes: tuple
    is_compiled: bool = False

    @property
    def is_traced(self):
        """Whether the first call on new shapes builds a graph."""
        return self.is_compiled or self.framework == "tensorflow"

    def steps(self, mode, tensors, dy, dtype):
        """Allocates `tensors` in the framework; returns `Steps`."""
        if self.framework == "torch":
            return _torch_steps(self, mode, tensors, dy, dtype)
        return _tensorflow_steps(self, mode, tensors, dy, dtype)


def ours(algorithm, mode, theta, phi, g, kernel=None):
    from keras_nonlocal.ops import non_local

    scale = theta.shape[-1] ** -0.5 if mode == "embedded_gaussian" else None
    return non_local(
        theta, phi, g, mode, scale=scale, concat_kernel=kernel, algorithm=algorithm
    )


def our_subject(algorithm):
    """`non_local` with this `algorithm`."""
    label = "ours" if algorithm == "auto" else f"ours, {algorithm}"
    return Subject(label, "tensorflow", functools.partial(ours, algorithm), MODES)


PEERS = {
    "published": Subject("PyTorch, published", "torch", op_peers.published, MODES),
    "broadcast": Subject(
        "PyTorch, broadcast", "torch", op_peers.broadcast, ("concatenation",)
    ),
    "sdpa": Subject(
        "PyTorch, SDPA", "torch", op_peers.scaled_dot_product_attention, GAUSSIAN
    ),
    "compile": Subject(
        "torch.compile, published",
        "torch",
        op_peers.published,
        (*GAUSSIAN, "dot_product"),
        is_compiled=True,
    ),
    # The published concatenation rarely fits into memory: its best dense form instead.
    "compile-broadcast": Subject(
        "torch.compile, broadcast",
        "torch",
        op_peers.broadcast,
        ("concatenation",),
        is_compiled=True,
    ),
    "keras": Subject("keras.ops, dense", "tensorflow", op_peers.naive_keras, MODES),
}


def subject(key):
    """The peer `key`, or `non_local` for `"ours:<algorithm>"`."""
    owner, _, algorithm = key.partition(":")
    return our_subject(algorithm) if owner == "ours" else PEERS[key]


def _torch_steps(subject, mode, tensors, dy, dtype):
    import torch

    keys_last = subject.function in op_peers.KEYS_LAST

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
    function = functools.partial(subject.function, mode)
    if subject.is_compiled:
        torch._dynamo.reset()  # without this the ninth shape silently runs uncompiled
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

    return Steps(forward, forward_backward, to_numpy)


def _tensorflow_steps(subject, mode, tensors, dy, dtype):
    import keras  # noqa: F401  here, not while a graph is traced
    import tensorflow as tf

    as_dtype = tf.as_dtype(dtype).as_numpy_dtype
    *tensors, dy = (tf.constant(t.astype(as_dtype)) for t in (*tensors, dy))
    run = tf.function(functools.partial(subject.function, mode))

    @tf.function
    def train(dy, *tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = subject.function(mode, *tensors)
        # y is returned, or its last product would be pruned from the graph.
        return y, *tape.gradient(y, tensors, dy)

    return Steps(
        lambda: run(*tensors),
        lambda: train(dy, *tensors),
        lambda results: [tf.cast(t, "float32").numpy() for t in results],
    )
