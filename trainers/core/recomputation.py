"""Training that keeps few activations, and computes the others again.

Between the forward and the backward pass a network keeps every activation that
a gradient needs. Here it keeps those at the ends of its blocks alone; the
backward pass computes a block's others again from them, one block at a time.
"""

import itertools

import keras
import tensorflow as tf

from trainers.core.errors import UserError


class RecomputedModel:
    """A model whose training computes the activations of its blocks again.

    It gives the same values, gradients and updates of moving statistics, at the
    price of one forward pass more. In all else it is the model itself.

    Args:
        model: Functional model of one input and one output.
        ends: Names of layers, in order: of each, the output is kept. It must be
            all that later layers need of earlier ones. What follows the last of
            them is not computed again.
    """

    def __init__(self, model, ends):
        tensors = [model.input, *(model.get_layer(name).output for name in ends)]
        self._model = model
        self._blocks = [keras.Model(x, y) for x, y in itertools.pairwise(tensors)]
        self._rest = keras.Model(tensors[-1], model.output)

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, x, training=None):
        if not training:
            return self._model(x, training=training)
        for block in self._blocks:
            x = _recomputed(block, x)
        return self._rest(x, training=True)


def recompute(model, task) -> RecomputedModel:
    """The model of a task, which knows where its blocks end.

    Raises:
        UserError: It has none, or a block adds to the loss.
    """
    ends = task.block_ends(model)
    if not ends:
        raise UserError(
            "trainer.recompute_activations is true, but the model has no blocks that "
            "could be computed again: set it to false."
        )
    for layer in model._flatten_layers():
        if layer.activity_regularizer is not None:
            raise UserError(
                f"trainer.recompute_activations is true, but {layer.path} has an "
                "activity_regularizer, whose loss would be lost: leave out one of "
                "the two."
            )
    return RecomputedModel(model, ends)


def _recomputed(block, x):
    """Output of a block in training, of which `x` alone is kept.

    The variables come in as tensors, and their updates out as others: so the
    second pass starts from what the first did (moving statistics, seeds), and
    only the first one's updates are assigned.
    """
    weights = [tf.convert_to_tensor(v.value) for v in block.trainable_variables]
    states = [tf.convert_to_tensor(v.value) for v in block.non_trainable_variables]
    updated = []

    @tf.custom_gradient
    def run(x, *weights):
        y, updated[:] = block.stateless_call(weights, states, x, training=True)
        return y, lambda dy: _gradients(block, x, weights, states, dy)

    y = run(x, *weights)
    for variable, old, new in zip(
        block.non_trainable_variables, states, updated, strict=True
    ):
        if new is not old:
            variable.assign(new)
    return y


def _gradients(block, x, weights, states, dy):
    """Gradients by `x` and by each weight, from a second forward pass.

    TensorFlow starts on whatever is ready: the pass waits for `dy`, and what
    comes after it (dx) for all that holds activations of this block.
    """
    with tf.control_dependencies([dy]):
        x = tf.identity(x)
    with tf.GradientTape() as tape:
        tape.watch([x, *weights])
        y, _ = block.stateless_call(weights, states, x, training=True)
    dx, *gradients = tape.gradient(y, [x, *weights], dy)
    with tf.control_dependencies([g for g in gradients if g is not None]):
        return tf.identity(dx), *gradients
