"""The measured blocks, each as an inference and a training step."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class BlockSteps(NamedTuple):
    """A block on a given clip.

    `inference()` gives z, `training()` z and the gradients of x and of the weights;
    `to_numpy` converts the latter to float32 as [z, dx, weights in one vector], in
    channels-last order.
    """

    inference: Callable
    training: Callable
    to_numpy: Callable


def our_layer(mode, convention, input_shape, dtype):
    """`NonLocal3D` with this convention; gamma is 1, so it is not an identity."""
    from keras_nonlocal import NonLocal3D

    layer = NonLocal3D(
        mode,
        pool_position="before" if convention.pools_before else "after",
        use_scale=convention.scales,
        use_output_bias=convention.output_bias,
        normalization_options={"gamma_initializer": "ones"},
        dtype="float32" if dtype == "float32" else f"mixed_{dtype}",
    )
    layer.build(input_shape)
    return layer


def torch_steps(block, x, dz, dtype, channels_last=False, compiled=False):
    """Steps of a `block_peers.Block`, in this memory layout."""
    import torch

    layout = torch.channels_last_3d if channels_last else torch.contiguous_format

    def tensor(array):
        array = torch.from_numpy(np.moveaxis(array, -1, 1).copy())
        return array.to(getattr(torch, dtype)).to(memory_format=layout)

    block = block.to(getattr(torch, dtype)).to(memory_format=layout)
    x, dz = tensor(x).requires_grad_(), tensor(dz)
    leaves = [x, *block.parameters()]
    run = block
    if compiled:
        torch._dynamo.reset()
        run = torch.compile(block, dynamic=False)

    def inference():
        block.eval()
        with torch.no_grad():
            return run(x)

    def training():
        block.train()
        z = run(x)
        return z.detach(), *torch.autograd.grad(z, leaves, dz)

    def to_numpy(results):
        arrays = [t.float().numpy() for t in results]
        maps = [np.moveaxis(t, 1, -1) for t in arrays[:2]]
        return [*maps, *_one_vector(map(_as_keras, arrays[2:]))]

    return BlockSteps(inference, training, to_numpy)


def keras_steps(layer, weights, x, dz, dtype):
    """Steps of a built layer; gradients in the order of `weights`."""
    import tensorflow as tf

    x, dz = (tf.cast(tf.constant(t), dtype) for t in (x, dz))
    weights = [weight.value for weight in weights]

    @tf.function
    def inference(x):
        return layer(x, training=False)

    @tf.function
    def training(x, dz):
        with tf.GradientTape() as tape:
            tape.watch(x)
            z = layer(x, training=True)
        return z, *tape.gradient(z, [x, *weights], dz)

    def to_numpy(results):
        arrays = [tf.cast(t, "float32").numpy() for t in results]
        return [*arrays[:2], *_one_vector(arrays[2:])]

    return BlockSteps(lambda: inference(x), lambda: training(x, dz), to_numpy)


def load_weights(layer, block):
    """Copies the block's weights to our layer; returns its variables in their order."""
    variables = []
    for name, weight in block.named_parameters():
        variables.append(_variable(layer, *name.split(".")))
        variables[-1].assign(_as_keras(weight.detach().numpy()))
    return variables


def _variable(layer, sublayer, kind):
    names = {"weight": "kernel", "bias": "bias"}
    if sublayer == "norm":
        names = {"weight": "gamma", "bias": "beta"}
    return getattr(getattr(layer, sublayer), names[kind])


def _as_keras(array):
    """Transposes a convolution's (out, in, 1, 1, 1) to (in, out), not vectors."""
    return array.reshape(array.shape[:2]).T if array.ndim > 1 else array


def _one_vector(arrays):
    """Some gradients are zero in theory: only all weights together have a scale."""
    arrays = [array.ravel() for array in arrays]
    return [np.concatenate(arrays)] if arrays else []
