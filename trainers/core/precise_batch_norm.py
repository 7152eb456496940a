"""Statistics of batch normalisation over many training batches ("precise BN").

The moving statistics average batches of steps whose weights differed. Here the weights
are fixed. With the mean m_i and the biased variance v_i of batch i of n, as a layer
computes them in training,

    mean = 1/n sum_i m_i
    variance = 1/n sum_i (v_i + m_i^2) - mean^2,

the variance of all n batches together (PySlowFast's BN.USE_PRECISE_STATS). Without
synchronisation, each replica's share of a batch counts as a batch.

Reference: Wu & Johnson, 2021, "Rethinking 'Batch' in BatchNorm", Sec. 3.2,
https://arxiv.org/abs/2105.07576
"""

import contextlib
from collections.abc import Callable, Iterable

import keras
import numpy as np
import tensorflow as tf

from keras_nonlocal.layers import FrozenBatchNorm
from trainers.core.errors import UserError


def normalizations(model) -> list:
    """The batch normalisations of a model whose statistics move in training.

    Frozen ones are left out, and those with `renorm`, which have other statistics.
    """
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and not isinstance(layer, FrozenBatchNorm)
        and not layer.renorm
    ]


class PreciseBatchNorm:
    """Computes the statistics of a model's layers with its present weights.

    Args:
        task: `trainers.core.task.Task`.
        model: Keras model, of the present strategy.
    """

    def __init__(self, task, model):
        self._strategy = tf.distribute.get_strategy()
        self._layers = normalizations(model)
        self._args = (task, model, self._layers)
        self._step = tf.function(self._distributed_step)

    def compute(self, batches: Iterable, on_batch: Callable) -> dict:
        """The statistics of some batches.

        No variable is changed: neither moving statistics nor the seeds of dropout.

        Args:
            batches: Distributed training batches, of equal sizes.
            on_batch: Called after each.

        Returns:
            float64 arrays by the path of `moving_mean` or `moving_variance`.

        Raises:
            UserError: There are no batches.
        """
        moments = []
        with _without_momentum(self._layers):
            for inputs in batches:
                moments.append(self._step(inputs).numpy())
                on_batch()
        if not moments:
            raise UserError(
                "There are no training data for trainer.precise_batch_norm: set its "
                "num_batches to 0, or check task.train_data."
            )
        return _combine(self._layers, np.float64(moments))

    def _distributed_step(self, inputs):
        moments = self._strategy.run(_moments, args=(inputs, *self._args))
        return self._strategy.gather(moments, axis=0)


def _moments(inputs, task, model, layers):
    """(1, 2 C): means of all layers, then variances, of this replica's batch."""
    with keras.StatelessScope() as scope:
        task.forward(inputs, model, training=True)
    statistics = [
        *(layer.moving_mean for layer in layers),
        *(layer.moving_variance for layer in layers),
    ]
    return tf.concat([scope.get_current_value(x) for x in statistics], 0)[None]


def _combine(layers, moments) -> dict:
    """Statistics by path, of `(batches, replicas, 2 C)` means and variances."""
    means, variances = np.split(moments.reshape(-1, moments.shape[-1]), 2, axis=-1)
    # The mean of squares would lose digits to a large mean: this is the same sum.
    mean, variance = means.mean(0), variances.mean(0) + means.var(0)
    ends = np.cumsum([layer.moving_mean.shape[0] for layer in layers])[:-1]
    parts = zip(layers, np.split(mean, ends), np.split(variance, ends), strict=True)
    return {
        path: value
        for layer, mean, variance in parts
        for path, value in (
            (layer.moving_mean.path, mean),
            (layer.moving_variance.path, variance),
        )
    }


@contextlib.contextmanager
def _without_momentum(layers):
    """Makes "moving" statistics those of one batch."""
    kept = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, kept, strict=True):
            layer.momentum = momentum
