"""Batch normalisation whose running statistics survive distributed training."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with moving statistics shared by replicas.

    Keras keeps one set of moving statistics per replica and saves the first
    replica's only. Here they are averaged over the replicas, as the released
    code and PyTorch's users expect. The defaults are those of the paper's
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

    def scale_and_offset(self):
        """What inference applies: y = scale x + offset.

        scale = gamma / sqrt(moving_variance + epsilon), offset = beta - scale
        moving_mean; `(channels,)` each, in float32 at least.
        """
        scale = ops.rsqrt(self.moving_variance + self.epsilon)
        if self.scale:
            scale = scale * self.gamma
        offset = -scale * self.moving_mean
        return scale, offset + self.beta if self.center else offset
