"""A tiny Keras 3 classifier as a task, with every part that a trainer must handle.

It has a convolution, batch normalisation, dropout, a layer held in a list, and
data that are a function of the step.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from keras_nonlocal.layers import BatchNormalization
from trainers.core import config_definitions
from trainers.core.experiments import register_experiment
from trainers.core.task import Task

NUM_CLASSES = 3


@dataclasses.dataclass
class ToyTaskConfig(config_definitions.TaskConfig):
    dropout_rate: float = 0.0
    batch_norm: bool = True
    overflow_step: int = -1
    nan_step: int = -1
    num_examples: int = 10


@register_experiment("toy")
def toy():
    config = config_definitions.ExperimentConfig(task=ToyTaskConfig())
    config.task.train_data.global_batch_size = 4
    config.task.validation_data.global_batch_size = 4
    config.trainer.train_steps = 6
    config.trainer.steps_per_loop = 2
    config.trainer.checkpoint_interval = 2
    config.trainer.validation_interval = 3
    config.trainer.optimizer_config.learning_rate.type = "constant"
    return config


@keras.saving.register_keras_serializable(package="toy")
class Listed(keras.layers.Layer):
    """Two layers in a list: `tf.train.Checkpoint` does not follow it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [keras.layers.Dense(4, name=f"part{i}") for i in range(2)]

    def build(self, shape):
        for part in self.parts:
            part.build((None, 4))

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


class ToyTask(Task):
    """Classifies (3, 3, 3, 2) noise; the loss can be made to misbehave."""

    metric_names = ("accuracy", "loss", "num_examples")
    best_metric = "accuracy"

    def build_model(self):
        config = self.task_config
        inputs = keras.Input((3, 3, 3, 2))
        x = keras.layers.Conv3D(4, 2, name="conv")(inputs)
        if config.batch_norm:
            x = BatchNormalization(name="bn")(x)
        x = keras.layers.GlobalAveragePooling3D(name="pool")(keras.ops.tanh(x))
        x = Listed(name="listed")(x)
        x = keras.layers.Dropout(config.dropout_rate, name="dropout")(x)
        x = keras.layers.Dense(NUM_CLASSES, dtype="float32", name="pred")(x)
        return keras.Model(inputs, x)

    def block_ends(self, model):
        return ["pool", "dropout"]

    def build_inputs(self, params, input_context=None, start_batch=0):
        size = params.global_batch_size
        context = input_context or tf.distribute.InputContext()
        batches = self._global_batches(params, size, start_batch)
        share = size // context.num_input_pipelines
        first = context.input_pipeline_id * share
        local = batches.map(
            lambda x: {k: v[first : first + share] for k, v in x.items()}
        )
        return local.unbatch().batch(size // context.num_replicas_in_sync, True)

    def _global_batches(self, params, size, start_batch):
        if params.is_training is False:
            return self._test_inputs(size)

        def read(step):
            x, y = tf.numpy_function(
                lambda step: make_batch(step, size), [step], [tf.float32, tf.int64]
            )
            x, y = tf.ensure_shape(x, (size, 3, 3, 3, 2)), tf.ensure_shape(y, (size,))
            step = tf.fill([size], step)
            return {"x": x, "y": y, "weight": tf.ones(size), "step": step}

        return tf.data.Dataset.range(start_batch, 10**6).map(read)

    def _test_inputs(self, size):
        """All examples once, the last batch filled up with weight 0."""
        count = self.task_config.num_examples
        x, y = make_batch(999, -(-count // size) * size)
        weight = (np.arange(len(y)) < count).astype(np.float32)
        step = np.full(len(y), -2)
        examples = {"x": x, "y": y, "weight": weight, "step": step}
        return tf.data.Dataset.from_tensor_slices(examples).batch(size)

    def forward(self, inputs, model, training):
        logits = tf.cast(model(inputs["x"], training=training), tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(inputs["y"], logits)
        losses = self._misbehave(losses, inputs["step"])
        hits = tf.cast(tf.argmax(logits, -1) == inputs["y"], tf.float32)
        return losses, {"accuracy": hits}

    def _misbehave(self, losses, steps):
        """NaN, or a gradient too large for float16, on the last replica."""
        config = self.task_config
        replicas = tf.distribute.get_replica_context()
        last = replicas.replica_id_in_sync_group == replicas.num_replicas_in_sync - 1
        for step, factor in ((config.nan_step, np.nan), (config.overflow_step, 1e30)):
            is_now = tf.logical_and(steps == step, last)
            losses *= tf.where(is_now, tf.constant(factor, tf.float32), 1.0)
        return losses

    def validation_step(self, inputs, model, metrics=None):
        losses, values = self.forward(inputs, model, training=False)
        hit = values["accuracy"]
        return {"loss": losses, "weight": inputs["weight"], "hit": hit}

    def aggregate_logs(self, state, step_logs):
        return [*(state or []), step_logs]

    def reduce_aggregated_logs(self, aggregated_logs, global_step=None):
        joined = {
            name: np.concatenate([logs[name] for logs in aggregated_logs])
            for name in aggregated_logs[0]
        }
        real = joined["weight"] > 0
        return {
            "accuracy": float(joined["hit"][real].mean()),
            "loss": float(joined["loss"][real].mean()),
            "num_examples": int(real.sum()),
        }


def make_batch(step, size):
    """The batch of a step; a function of the step alone."""
    random = np.random.default_rng(int(step))
    x = random.normal(size=(size, 3, 3, 3, 2)).astype(np.float32)
    return x, random.integers(0, NUM_CLASSES, size)
