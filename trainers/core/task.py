"""The interface between a task and the trainer; the update is the same for all."""

import abc
from collections.abc import Mapping, Sequence

import tensorflow as tf
from official.core import base_task

from trainers.core import checkpoints, optimization


class Task(base_task.Task):
    """A Model Garden task whose model and optimizer are Keras 3.

    Subclasses define `build_model`, `build_inputs`, `forward`, the evaluation
    (`validation_step`, `aggregate_logs`, `reduce_aggregated_logs`), the
    `metric_names` of its results, the `best_metric` among them, the
    `lower_is_better` ones, the `class_names` in label order, whether batches of
    validation have what `forward` needs (`evaluates_loss`), and whether batches differ
    in their shapes (`varying_shapes`).
    """

    class_names = ()
    metric_names = ("loss",)
    best_metric = "loss"
    lower_is_better = ("loss", "validation_loss")
    evaluates_loss = True
    varying_shapes = False

    @abc.abstractmethod
    def build_inputs(self, params, input_context=None, start_batch=0):
        """Dataset of per-replica batches.

        Args:
            params: `DataConfig`.
            input_context: `tf.distribute.InputContext`.
            start_batch: Global batches that training has already seen.

        Batches are dicts with each example's float32 `weight`. Every batch must
        be full, in evaluation too: fill up with rows of weight 0. A replica with
        an empty batch would fail.
        """

    @abc.abstractmethod
    def forward(self, inputs, model, training):
        """Computes the loss of each example.

        Returns:
            `(losses, metrics)`: float32 `(batch,)`, and a dict of `(batch,)`
            values; both are averaged by the examples' `weight`.
        """

    def describe_data(self, is_training: bool) -> dict[str, list[str]]:
        """What a data set consists of, for comparing workers: lines by name.

        Raises its errors, too: training calls it for both data sets at the start.
        """
        return {}

    def describe_model(self) -> str:
        """The network in words, for `dry_run`."""
        model = self.build_model()
        return f"{model.name}: {model.count_params():,} parameters"

    def block_ends(self, model) -> Sequence[str]:
        """Layers whose outputs `trainer.recompute_activations` keeps, in order.

        See `recomputation.RecomputedModel`. Empty if blocks cannot be recomputed.
        """
        return ()

    def initialize(self, model):
        """Loads `init_checkpoint`, unless it is empty."""
        if self.task_config.init_checkpoint:
            checkpoints.restore_model(model, self.task_config.init_checkpoint)

    def check_inputs(self):
        """Raises the error that ended the input pipeline, if any."""

    def report(self) -> list[str]:
        """Lines to print at the end of a run."""
        return []

    def write_report(self, folder: str):
        """Writes files on the last evaluation. `--mode eval` calls it on the chief."""

    def pictures(self) -> Mapping:
        """Images of the last evaluation for TensorBoard: uint8 arrays by name."""
        return {}

    def format_metrics(self, metrics: Mapping) -> str:
        """Formats metrics for the terminal."""
        return "  ".join(f"{name} {value}" for name, value in metrics.items())

    # === One update, in replica context ===
    #
    # The loss is the weighted mean over the examples of all replicas: it does not
    # depend on how these are divided among replicas and parts.

    def total_weight(self, inputs):
        """Sum of the weights of the examples of all replicas."""
        replicas = tf.distribute.get_replica_context()
        return replicas.all_reduce("sum", tf.reduce_sum(inputs["weight"]))

    def gradients(self, inputs, model, optimizer, total, num_parts: int = 1):
        """This replica's share of the gradient of a batch, or of a part of it.

        Args:
            inputs: This replica's batch, or one of `num_parts` parts of it.
            model: Keras model.
            optimizer: Its loss scale multiplies the gradients.
            total: Weight of the whole batch, over all replicas.
            num_parts: Number of parts, whose gradients add up to the batch's.

        Returns:
            A gradient per trainable variable, and a dict of `(sum, weight)`. Both
            summed over parts, replicas and steps give a mean.
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
        """Updates the model with the replicas' gradients; returns their norm.

        The norm is a `(sum, weight)`: (0, 0) for a step that loss scaling skips.
        """
        norm = optimization.apply_global_gradients(
            optimizer, model, gradients, config=config
        )
        return _unless_skipped(norm, optimizer)

    # === Evaluation ===

    def evaluation_data(self, in_training: bool):
        """The `DataConfig` of an evaluation that begins.

        Args:
            in_training: It is one during training, which may be smaller.
        """
        return self.task_config.validation_data

    def inference_model(self, model, previous=None):
        """The model passed to `validation_step`, with the present weights.

        Args:
            model: Keras model.
            previous: The one of the previous evaluation, which may be updated and
                returned; None at the first.
        """
        return model

    @abc.abstractmethod
    def validation_step(self, inputs, model, metrics=None):
        """Scores a batch: a dict of `(batch, ...)` tensors, gathered on the host."""

    @abc.abstractmethod
    def aggregate_logs(self, state, step_logs):
        """Adds one step's outputs (numpy, all replicas) to the state."""

    @abc.abstractmethod
    def reduce_aggregated_logs(self, aggregated_logs, global_step=None) -> Mapping:
        """Computes the metrics of the whole evaluation."""


def _unless_skipped(norm, optimizer):
    """(norm, 1), or (0, 0) for a step that loss scaling skips."""
    is_skipped = ~tf.math.is_finite(norm) & hasattr(optimizer, "dynamic_scale")
    return tf.where(is_skipped, 0.0, norm), tf.where(is_skipped, 0.0, 1.0)


def _check_connected(gradients, variables):
    alone = [v.path for g, v in zip(gradients, variables, strict=True) if g is None]
    if alone:
        raise ValueError(f"The loss does not depend on: {', '.join(alone)}.")
