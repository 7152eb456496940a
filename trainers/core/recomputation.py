"""Gradient checkpointing: training that keeps few activations and recomputes others.

Between the forward and the backward pass a network keeps every activation that
a gradient needs. Here it keeps only those at the ends of its blocks; the backward
pass recomputes the others from them, one block at a time.
"""

import itertools

import keras
import tensorflow as tf

from trainers.core.errors import UserError


class RecomputedModel:
    """A model whose activations within blocks are recomputed in training.

    Values, gradients and updates of moving statistics are the same, at the price of
    one more forward pass. All other attributes are the model's.

    Args:
        model: Functional model with one input and one output.
        ends: Names of layers, in order, whose outputs are kept. Later layers must
            not depend on earlier ones except through these outputs. Layers after
            the last of them are not recomputed.
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
    """Recomputes the blocks of a task's model; `task.block_ends` names them.

    Raises:
        UserError: The model has no blocks, or a layer adds to the loss.
    """
    ends = task.block_ends(model)
    if not ends:
        raise UserError(
            "trainer.recompute_activations is true, but the model has no blocks that "
            "could be recomputed: set it to false."
        )
    for layer in model._flatten_layers():
        if layer.activity_regularizer is not None:
            raise UserError(
                f"trainer.recompute_activations is true, but {layer.path} has an "
                "activity_regularizer, whose loss would be lost: remove one of the two."
            )
    return RecomputedModel(model, ends)


def _recomputed(block, x):
    """Output of a block in training; of its activations only `x` is kept.

    Variables are passed in as tensors, and their updates are returned as others. So
    both passes start from the same values (moving statistics, seeds), and only the
    updates of the first one are assigned.
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
    """Gradients with respect to `x` and each weight, from a second forward pass.

    TensorFlow starts every operation whose inputs are ready. So the pass is made to
    wait for `dy`, and what follows it (dx) for all gradients of this block, which
    hold its activations.
    """
    with tf.control_dependencies([dy]):
        x = tf.identity(x)
    with tf.GradientTape() as tape:
        tape.watch([x, *weights])
        y, _ = block.stateless_call(weights, states, x, training=True)
    dx, *gradients = tape.gradient(y, [x, *weights], dy)
    with tf.control_dependencies([g for g in gradients if g is not None]):
        return tf.identity(dx), *gradients
