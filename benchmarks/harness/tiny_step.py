"""Time of a training step of the smallest network, in a process of its own.

    python -m harness.tiny_step graph|trainer LOOPS

prints the median microseconds of a step, over loops of `STEPS_PER_LOOP` steps.
"""

import json
import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

sys.path.append(str(pathlib.Path(__file__).parents[2]))  # `trainers` is not installed
from trainers.core import distribution, optimization
from trainers.core.config_definitions import ExperimentConfig
from trainers.core.progress import ProgressBar
from trainers.core.signals import StopRequest
from trainers.core.task import Task
from trainers.core.trainer import Trainer

STEPS_PER_LOOP = 100


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


def main(subject, loops):
    config = ExperimentConfig()
    config.runtime.distribution_strategy = "one_device"
    config.task.train_data.global_batch_size = 1
    config.trainer.optimizer_config.learning_rate.type = "constant"
    distribution.configure(config.runtime)
    with distribution.build_strategy(config.runtime).scope():
        trainer = _trainer(config)
        with StopRequest() as trainer.stop:
            loop = {"graph": _graph, "trainer": _training}[subject](trainer)
            loop()  # traces
            times = [_microseconds(loop) for _ in range(int(loops))]
    print(json.dumps(statistics.median(times)))


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
        for _ in range(STEPS_PER_LOOP):
            step(batch, None)

    return loop


def _training(trainer):
    return lambda: trainer.train(tf.constant(STEPS_PER_LOOP))


def _microseconds(loop):
    start = time.perf_counter()
    loop()
    return 1e6 * (time.perf_counter() - start) / STEPS_PER_LOOP


if __name__ == "__main__":
    main(*sys.argv[1:])
