"""Trains the toy on 1 or 2 logical CPUs; saves the weights for a test to compare.

python -m tests.trainers.core.replicas OUT NUM_DEVICES [NAME] [a.b=c ...] [NAME ...]

One strategy per process, as TensorFlow wants it; runs follow one another. With a
TF_CONFIG, this is one of its workers, which saves the weights of its own replicas.
"""

import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf

from tests.trainers.core import toy_task
from trainers.core import config, distribution, optimization
from trainers.core.evaluation_weights import EvaluationWeights
from trainers.core.trainer import Trainer

STEPS = 3


def build(experiment, task=toy_task.ToyTask):
    task = task(experiment.task)
    keras.utils.set_random_seed(0)
    model = task.build_model()
    distribution.share_dropout_masks(model)
    if experiment.runtime.synchronize_batch_norm:
        distribution.synchronize_batch_norm(model)
    optimizer = optimization.build_optimizer(
        experiment.trainer.optimizer_config,
        experiment.runtime,
        experiment.task.train_data.global_batch_size,
    )
    optimization.build_for(optimizer, model)
    return Trainer(experiment, task, model, optimizer)


def train(experiment, strategy):
    """All variables, on each replica, and what the last steps reported."""
    with strategy.scope():
        trainer = build(experiment)
        logs = trainer.train(tf.constant(STEPS))
        weights = EvaluationWeights(
            experiment, trainer._task, trainer.model, trainer.optimizer
        )
        weights.prepare(STEPS)
        with weights.in_use():
            used = [
                (v.path, strategy.experimental_local_results(v.value))
                for v in trainer.model.variables
            ]
            used = {
                f"evaluated/{i}/{path}": copy.numpy()
                for path, copies in used
                for i, copy in enumerate(copies)
            }
    values = {f"logs/{name}": value for name, value in logs.items()} | used
    variables = [*trainer.model.variables, *trainer.optimizer.variables]
    for variable in variables:
        copies = strategy.experimental_local_results(variable.value)
        values |= {f"{i}/{variable.path}": c.numpy() for i, c in enumerate(copies)}
    return values


def masks(strategy):
    """Dropout masks that each replica draws, in two steps, for a batch of two."""
    with strategy.scope():
        dropout = keras.layers.Dropout(0.5, name="dropout")
        inputs = keras.Input((64,))
        model = keras.Model(inputs, dropout(inputs))
        distribution.share_dropout_masks(model)

    @tf.function
    def draw():
        x = tf.ones((2 // strategy.num_replicas_in_sync, 64))
        return strategy.run(lambda: model(x, training=True))

    draws = [strategy.experimental_local_results(draw()) for _ in range(2)]
    return {
        f"step{step}/replica{i}": mask.numpy()
        for step, parts in enumerate(draws)
        for i, mask in enumerate(parts)
    }


def main(out, num_devices, *arguments):
    worker = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {}).get("index")
    runs, suffix = [], num_devices if worker is None else f"_of_worker{worker}"
    for argument in arguments:
        if "=" in argument:
            runs[-1][1].append(argument)
        else:
            runs.append((argument, [f"runtime.num_cpu_devices={num_devices}"]))
            if worker is not None:
                strategy = "runtime.distribution_strategy=multi_worker_mirrored"
                runs[-1][1].append(strategy)
    strategy = None
    for name, overrides in runs:
        _, experiment = config.load_experiment([], overrides, "toy")
        distribution.configure(experiment.runtime)
        strategy = strategy or distribution.build_strategy(experiment.runtime)
        values = masks(strategy) if name == "masks" else train(experiment, strategy)
        np.savez(f"{out}/{name}{suffix}.npz", **values)


if __name__ == "__main__":
    main(*sys.argv[1:])
