"""100 training steps of the smallest network, by the trainer or its graph alone."""

import contextlib

import keras
import tensorflow as tf

from harness.process import Made
from trainers.core import distribution, optimization
from trainers.core.config_definitions import ExperimentConfig
from trainers.core.progress import ProgressBar
from trainers.core.signals import StopRequest
from trainers.core.task import Task
from trainers.core.trainer import Trainer

STEPS = 100
LIFE = contextlib.ExitStack()  # of the process: the scope and the signals of a run


class TinyTask(Task):
    """One neuron, on one batch that is repeated."""

    def build_model(self):
        return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    def build_inputs(self, params, input_context=None, start_batch=0):
        batch = {"x": tf.ones((1, 1)), "weight": tf.ones(1)}
        return tf.data.Dataset.from_tensors(batch).repeat()

    def forward(self, inputs, model, training):
        return model(inputs["x"], training=training)[:, 0] ** 2, {}

    def validation_step(self, inputs, model, metrics=None):
        raise NotImplementedError

    aggregate_logs = reduce_aggregated_logs = validation_step


def make(subject):
    """The subject `"graph"` or `"trainer"`."""
    config = ExperimentConfig()
    config.runtime.distribution_strategy = "one_device"
    config.task.train_data.global_batch_size = 1
    config.trainer.optimizer_config.learning_rate.type = "constant"
    distribution.configure(config.runtime)
    LIFE.enter_context(distribution.build_strategy(config.runtime).scope())
    trainer = _trainer(config)
    trainer.stop = LIFE.enter_context(StopRequest())
    loop = {"graph": _graph, "trainer": _training}[subject](trainer)
    return Made({"steps": loop})


def _trainer(config):
    task = TinyTask(config.task)
    model = task.build_model()
    chosen = config.trainer.optimizer_config
    optimizer = optimization.build_optimizer(chosen, config.runtime, 1)
    optimization.build_for(optimizer, model)
    trainer = Trainer(config, task, model, optimizer)
    bar = ProgressBar("train", 10**9)
    trainer.on_step, trainer.on_results = bar.advance, bar.show
    return trainer


def _graph(trainer):
    """The function that TensorFlow runs in a step, without its Python wrapper."""
    batch = next(trainer._train_inputs())
    step = trainer._train_step.get_concrete_function(batch, None)

    def loop():
        for _ in range(STEPS):
            step(batch, None)

    return loop


def _training(trainer):
    return lambda: trainer.train(tf.constant(STEPS))
