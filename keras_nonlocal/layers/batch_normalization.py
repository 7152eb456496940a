"""Batch normalisation with moving statistics averaged over replicas."""

import keras
from keras import ops

from keras_nonlocal.ops import batch_norm


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with moving statistics shared by replicas.

    Keras keeps the moving statistics of each replica and saves those of the first.
    Here they are averaged over the replicas. The defaults are those of the paper's
    networks: `epsilon=1e-5`, `momentum=0.9` (Keras: 1e-3 and 0.99).

    Args: see `keras.layers.BatchNormalization`.

    Example:
    >>> BatchNormalization().momentum
    0.9
    """

    def __init__(self, axis=-1, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(axis=axis, momentum=momentum, epsilon=epsilon, **kwargs)

    def add_weight(self, *args, **kwargs):
        if kwargs.get("name") in ("moving_mean", "moving_variance"):
            kwargs["aggregation"] = "mean"
        return super().add_weight(*args, **kwargs)

    def call(self, inputs, training=None, mask=None):
        is_plain = mask is None and not (self.renorm or self.synchronized)
        if not (is_plain and self._normalizes_last_axis()):
            return super().call(inputs, training=training, mask=mask)
        inputs = ops.cast(inputs, self.compute_dtype)
        options = (self.gamma, self.beta, self.epsilon)
        if not (training and self.trainable):
            statistics = (self.moving_mean, self.moving_variance)
            return batch_norm.normalize(inputs, *statistics, *options)
        y, mean, variance = batch_norm.normalize_by_batch(inputs, *options)
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, variance)
        return y

    def _normalizes_last_axis(self):
        return self.axis in (-1, self.input_spec.ndim - 1)

    def _move(self, statistic, value):
        kept = self.momentum * statistic
        statistic.assign(kept + (1.0 - self.momentum) * ops.cast(value, kept.dtype))

    def scale_and_offset(self):
        """The factors of inference, y = scale x + offset.

        scale = gamma / sqrt(moving_variance + epsilon), offset = beta - scale
        moving_mean; `(channels,)` each, in float32 at least.
        """
        scale = ops.rsqrt(self.moving_variance + self.epsilon)
        if self.scale:
            scale = scale * self.gamma
        offset = -scale * self.moving_mean
        return scale, offset + self.beta if self.center else offset


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class FrozenBatchNorm(BatchNormalization):
    """Batch normalisation by stored statistics, in training too: y = s x + t.

    s = gamma / sqrt(moving_variance + epsilon), t = beta - s moving_mean. None of the
    four is ever trained or moved, whatever `trainable` is. Detection networks, whose
    batches are small, are fine-tuned with these; an affine layer is one with
    `epsilon=0`, mean 0 and variance 1.

    Args: see `BatchNormalization`; `epsilon` may be 0.

    Example:
    >>> norm = FrozenBatchNorm(epsilon=0.0)
    >>> norm.build((None, 8, 8, 3))
    >>> len(norm.trainable_weights), len(norm.non_trainable_weights)
    (0, 4)
    """

    def add_weight(self, *args, **kwargs):
        return super().add_weight(*args, **(kwargs | {"trainable": False}))

    def call(self, inputs, training=None, mask=None):
        if not (training and self._normalizes_last_axis()):
            return super().call(inputs, training=False)
        inputs = ops.cast(inputs, self.compute_dtype)
        statistics = self.moving_mean, self.moving_variance, self.gamma, self.beta
        return batch_norm.normalize_by_constants(inputs, *statistics, self.epsilon)
