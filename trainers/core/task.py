"""What a task is to the trainer: the forward pass is its own, the update ours."""

import abc
from collections.abc import Mapping

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

        Every batch must be full, in evaluation too: fill up with rows of weight
        0. A replica that were left with an empty one would fail.
        """

    @abc.abstractmethod
    def forward(self, inputs, model, training):
        """Loss of each example.

        Returns:
            `(losses, weights, metrics)`: float32 `(batch,)` twice, and a dict
            of `(batch,)` values to average with the same weights.
        """

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

    def train_step(self, inputs, model, optimizer, metrics=None, *, config):
        """One update, in replica context.

        The loss is the mean over the examples of all replicas, by weight, so
        the step does not depend on how they were dealt out.

        Args:
            inputs: This replica's batch.
            model: Keras model.
            optimizer: From `optimization.build_optimizer`, built.
            metrics: Not used: sums are returned, and averaged by the trainer.
            config: `SGDConfig` or `AdamWConfig`.

        Returns:
            Dict of `(sum, weight)`; adding both up over replicas and steps
            gives a mean.
        """
        replicas = tf.distribute.get_replica_context()
        with tf.GradientTape() as tape:
            losses, weights, values = self.forward(inputs, model, training=True)
            weight = tf.reduce_sum(weights)
            total = replicas.all_reduce("sum", tf.stop_gradient(weight))
            loss = tf.math.divide_no_nan(tf.reduce_sum(losses * weights), total)
            if model.losses:
                loss += tf.add_n(model.losses) / replicas.num_replicas_in_sync
            scaled = optimizer.scale_loss(loss)
        variables = model.trainable_variables
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        _check_connected(gradients, variables)
        norm = optimization.apply_global_gradients(
            optimizer, model, gradients, config=config
        )
        sums = {
            name: (tf.reduce_sum(value * weights), weight)
            for name, value in {"loss": losses, **values}.items()
        }
        return {**sums, "gradient_norm": _unless_skipped(norm, optimizer)}

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
