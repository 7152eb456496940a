"""What a task is to the trainer: the forward pass is its own, the update ours."""

import abc
from collections.abc import Mapping, Sequence

import tensorflow as tf
from official.core import base_task

from trainers.core import checkpoints, optimization


class Task(base_task.Task):
    """A Model Garden task whose model and optimizer are Keras 3.

    Subclasses give `build_model`, `build_inputs`, `forward`, the evaluation
    (`validation_step`, `aggregate_logs`, `reduce_aggregated_logs`), the
    `metric_names` that it gives, and which of them the `best_metric` is.
    """

    metric_names = ("loss",)
    best_metric = "loss"
    higher_is_better = True

    @abc.abstractmethod
    def build_inputs(self, params, input_context=None, start_batch=0):
        """Dataset of per-replica batches.

        Args:
            params: `DataConfig`.
            input_context: `tf.distribute.InputContext`.
            start_batch: Global batches that training has already seen.

        Batches are dicts with each example's float32 `weight`. Every batch must
        be full, in evaluation too: fill up with rows of weight 0. A replica that
        were left with an empty one would fail.
        """

    @abc.abstractmethod
    def forward(self, inputs, model, training):
        """Loss of each example.

        Returns:
            `(losses, metrics)`: float32 `(batch,)`, and a dict of `(batch,)`
            values; both are averaged by the examples' `weight`.
        """

    def block_ends(self, model) -> Sequence[str]:
        """Layers whose outputs `trainer.recompute_activations` keeps, in order.

        See `recomputation.RecomputedModel`; none, if blocks cannot be recomputed.
        """
        return ()

    def initialize(self, model):
        """Starts from `init_checkpoint`, where there is one."""
        if self.task_config.init_checkpoint:
            checkpoints.restore_model(model, self.task_config.init_checkpoint)

    def check_inputs(self):
        """Raises what ended the input pipeline, if something did."""

    def report(self) -> list[str]:
        """Lines to print at the end of a run."""
        return []

    def format_metrics(self, metrics: Mapping) -> str:
        """Metrics as people read them."""
        return "  ".join(f"{name} {value}" for name, value in metrics.items())

    # === One update, in replica context ===
    #
    # The loss is the mean over the examples of all replicas, by weight: it does
    # not depend on how they were dealt out, nor on the parts they come in.

    def total_weight(self, inputs):
        """Weight of the examples of all replicas."""
        replicas = tf.distribute.get_replica_context()
        return replicas.all_reduce("sum", tf.reduce_sum(inputs["weight"]))

    def gradients(self, inputs, model, optimizer, total, num_parts: int = 1):
        """This replica's share of the gradient, of a batch or of a part of it.

        Args:
            inputs: This replica's batch, or one of `num_parts` parts of it.
            model: Keras model.
            optimizer: Whose loss scale the gradients are multiplied by.
            total: Weight of the whole batch, of all replicas.
            num_parts: Their gradients add up to that of the batch.

        Returns:
            A gradient per trainable variable, and a dict of `(sum, weight)`; adding
            both up over parts, replicas and steps gives a mean.
        """
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        weights = inputs["weight"]
        with tf.GradientTape() as tape:
            losses, values = self.forward(inputs, model, training=True)
            loss = tf.math.divide_no_nan(tf.reduce_sum(losses * weights), total)
            if model.losses:
                loss += tf.add_n(model.losses) / (num_parts * replicas)
            scaled = optimizer.scale_loss(loss)
        variables = model.trainable_variables
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        _check_connected(gradients, variables)
        weight = tf.reduce_sum(weights)
        return gradients, {
            name: (tf.reduce_sum(value * weights), weight)
            for name, value in {"loss": losses, **values}.items()
        }

    def update(self, gradients, model, optimizer, *, config):
        """Updates the model by the replicas' gradients; returns their norm.

        The norm is a `(sum, weight)`, 0 of 0 for a step that loss scaling skips.
        """
        norm = optimization.apply_global_gradients(
            optimizer, model, gradients, config=config
        )
        return _unless_skipped(norm, optimizer)

    # === Evaluation ===

    def inference_model(self, model, previous=None):
        """What `validation_step` is given: the network with its present weights.

        Args:
            model: Keras model.
            previous: What the evaluation before this one was given, to be brought
                up to date instead of made anew; None at the first.
        """
        return model

    @abc.abstractmethod
    def validation_step(self, inputs, model, metrics=None):
        """Dict of `(batch, ...)` tensors, gathered on the host."""

    @abc.abstractmethod
    def aggregate_logs(self, state, step_logs):
        """Adds one step's outputs (numpy, all replicas) to the state."""

    @abc.abstractmethod
    def reduce_aggregated_logs(self, aggregated_logs, global_step=None) -> Mapping:
        """Metrics of the whole evaluation."""


def _unless_skipped(norm, optimizer):
    """(norm, 1), or (0, 0) for a step that loss scaling skips."""
    is_skipped = ~tf.math.is_finite(norm) & hasattr(optimizer, "dynamic_scale")
    return tf.where(is_skipped, 0.0, norm), tf.where(is_skipped, 0.0, 1.0)


def _check_connected(gradients, variables):
    alone = [v.path for g, v in zip(gradients, variables, strict=True) if g is None]
    if alone:
        raise ValueError(f"The loss does not depend on: {', '.join(alone)}.")
