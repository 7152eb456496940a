"""Keras optimizers whose update depends on the global gradient alone.

Three things go wrong silently with Keras 3 optimizers under tf.distribute:
clipping by norm acts on each replica's part before the sum, a float16 overflow
on one replica is skipped on that one only, and weight decay is decoupled. Here
the gradient is summed over replicas first, once; everything else acts on that sum.
"""

import keras
import tensorflow as tf

from trainers.core.schedules import build_learning_rate


class _OfSums:
    """An optimizer whose gradients are already summed over replicas."""

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)


class AdamW(_OfSums, keras.optimizers.AdamW):
    """Keras's AdamW, of summed gradients."""


class SGD(_OfSums, keras.optimizers.SGD):
    """SGD of summed gradients, with one operation per variable.

    With `momentum_correction`, momentum is in units of gradient:

        v = momentum * v + g
        w = w - lr * (g + momentum * v)     with Nesterov, else w - lr * v

    This equals Caffe2's `v = momentum * v + lr * g` with `v` multiplied by
    new / old rate at every change (SCALE_MOMENTUM). Without, it is Keras's form:

        v = momentum * v - lr * g
        w = w - lr * g + momentum * v       with Nesterov, else w + v
    """

    def __init__(self, *args, momentum_correction=True, **kwargs):
        super().__init__(*args, **kwargs)
        self.momentum_correction = momentum_correction

    def update_step(self, gradient, variable, learning_rate):
        if not self.momentum:
            return super().update_step(gradient, variable, learning_rate)
        update = (
            tf.raw_ops.ResourceApplyMomentum
            if self.momentum_correction
            else tf.raw_ops.ResourceApplyKerasMomentum
        )
        velocity = self.momentums[self._get_variable_index(variable)]
        update(
            var=variable.handle,
            accum=velocity.value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )


def build_optimizer(config, runtime, batch_size: int, num_steps: int = 1):
    """The optimizer of an `OptimizationConfig`, unbuilt.

    Call `optimizer.build(model.trainable_variables)` within the strategy scope
    before the first step: Keras cannot build it inside a replica.

    Args:
        config: `OptimizationConfig`.
        runtime: `RuntimeConfig`.
        batch_size: `global_batch_size` of training, for `reference_batch_size`.
        num_steps: Steps of training, over which the learning rate is checked.

    Raises:
        UserError: An unknown optimizer or schedule, or an invalid number.
    """
    runtime.check()
    config.optimizer.check()
    config.ema.check()
    decay = config.ema.average_decay
    ema = {"use_ema": True, "ema_momentum": decay} if decay else {}
    chosen = config.optimizer.get()
    rate = build_learning_rate(config, config.rate_scale(batch_size), num_steps)
    match config.optimizer.type:
        case "sgd":
            optimizer = SGD(
                rate,
                chosen.momentum,
                nesterov=chosen.nesterov,
                momentum_correction=chosen.momentum_correction,
                name="optimizer",
                **ema,
            )
        case _:
            optimizer = AdamW(
                rate,
                weight_decay=chosen.weight_decay,
                beta_1=chosen.beta_1,
                beta_2=chosen.beta_2,
                epsilon=chosen.epsilon,
                name="optimizer",
                **ema,
            )

    if runtime.mixed_precision_dtype == "float16":
        return keras.optimizers.LossScaleOptimizer(
            optimizer, runtime.loss_scale, name="loss_scale"
        )
    return optimizer


def build_for(optimizer, model):
    """Builds an optimizer for a model, without weight decay of its normalisation."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    decayed = {id(variable) for variable in decayed_variables(model)}
    if inner.weight_decay:
        inner.exclude_from_weight_decay(
            [v for v in model.trainable_variables if id(v) not in decayed]
        )
    optimizer.build(model.trainable_variables)


def averages(optimizer) -> dict:
    """The `tf.Variable` with the average of each weight, by the path of the weight.

    Empty without `ema`.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not inner.use_ema:
        return {}
    weights, means = inner._trainable_variables, inner._model_variables_moving_average
    return {x.path: mean.value for x, mean in zip(weights, means, strict=True)}


def decayed_variables(model) -> list:
    """Trainable variables that weight decay acts on: kernels and biases.

    The scales and offsets of every normalisation layer are left out, as in the
    paper's code (WEIGHT_DECAY_BN 0).
    """
    normalizations = (
        keras.layers.BatchNormalization,
        keras.layers.LayerNormalization,
        keras.layers.GroupNormalization,
    )
    left_out = {
        id(variable)
        for layer in model._flatten_layers()
        if isinstance(layer, normalizations)
        for variable in layer.trainable_variables
    }
    return [v for v in model.trainable_variables if id(v) not in left_out]


def biases(model) -> list:
    """The biases among the trainable variables; not the offsets of normalisation."""
    return [v for v in decayed_variables(model) if len(v.shape) < 2]


def apply_global_gradients(optimizer, model, gradients, *, config):
    """One update from the sum of all replicas' gradients.

    Called in replica context with each replica's own part, which is scaled if the
    optimizer scales the loss. In order: sum over replicas, unscale, clip by the
    global norm, add the coupled weight decay, multiply those of biases, update. A
    loss-scaling optimizer skips an update that is not finite on every replica.

    Args:
        optimizer: From `build_optimizer`, built.
        model: Keras model.
        gradients: One per trainable variable.
        config: `SGDConfig` or `AdamWConfig`.

    Returns:
        Norm of the summed gradient, before clipping.
    """
    replicas = tf.distribute.get_replica_context()
    if replicas.num_replicas_in_sync > 1:  # else every update would wait for all
        gradients = replicas.all_reduce("sum", gradients)
    gradients = _unscaled(gradients, optimizer)
    norm = tf.linalg.global_norm(gradients)
    if config.global_clipnorm:
        gradients, _ = tf.clip_by_global_norm(gradients, config.global_clipnorm, norm)
    if getattr(optimizer, "inner_optimizer", optimizer).weight_decay is None:
        gradients = _add_decay(gradients, model, config)
        gradients = _with_bias_rate(gradients, model, config.bias_rate_factor)
    optimizer.apply(_scaled_again(gradients, optimizer))
    return norm


def _unscaled(gradients, optimizer):
    if not _scales(optimizer):
        return gradients
    scale = loss_scale(optimizer)
    return [gradient / scale for gradient in gradients]


def _scaled_again(gradients, optimizer):
    """The gradients as a loss-scaling optimizer expects them."""
    if not _scales(optimizer):
        return gradients
    scale = loss_scale(optimizer)
    return [gradient * scale for gradient in gradients]


def _scales(optimizer) -> bool:
    return hasattr(optimizer, "dynamic_scale")


def loss_scale(optimizer) -> tf.Tensor:
    """The factor by which the optimizer multiplies the loss: 1 except in float16."""
    if not _scales(optimizer):
        return tf.ones(())
    return tf.convert_to_tensor(optimizer.dynamic_scale.value)


def _add_decay(gradients, model, config):
    decayed = {id(variable) for variable in decayed_variables(model)}
    if not config.decay_biases:
        decayed -= {id(variable) for variable in biases(model)}
    return [
        _decay(gradient, variable.value, config.weight_decay)
        if id(variable) in decayed
        else gradient
        for gradient, variable in zip(gradients, model.trainable_variables, strict=True)
    ]


def _decay(gradient, weight, rate):
    """gradient + rate * weight, of which nothing is computed before the gradient.

    Otherwise TensorFlow starts with the products, which depend on no other operation,
    and keeps a copy of all weights during the whole step.
    """
    weight = tf.convert_to_tensor(weight)
    rate = tf.constant(rate, weight.dtype)
    with tf.control_dependencies([gradient]):
        return gradient + weight * rate


def _with_bias_rate(gradients, model, factor):
    """The gradients, those of biases times `factor`: as another learning rate."""
    if factor == 1:
        return gradients
    scaled = {id(variable) for variable in biases(model)}
    return [
        factor * gradient if id(variable) in scaled else gradient
        for gradient, variable in zip(gradients, model.trainable_variables, strict=True)
    ]
