"""The first step of a small non-local network, divided among one to four replicas.

python -m tests.trainers.core.test_replica_gradients OUT

takes the steps, one after another on logical CPUs, and saves gradients and statistics.
"""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal.layers import BatchNormalization, NonLocal3D, PaddedMaxPooling3D
from tests.trainers.core import replicas, toy_task
from trainers.core import config, distribution

ROOT = pathlib.Path(__file__).parents[3]
REPLICAS = (1, 2, 3, 4)
OVERRIDES = (
    "runtime.synchronize_batch_norm=true",
    f"runtime.num_cpu_devices={max(REPLICAS)}",
    "runtime.distribution_strategy=mirrored",
    "task.train_data.global_batch_size=24",
    "task.dropout_rate=0.5",
    "trainer.gradient_accumulation_steps=2",
)


class NonLocalTask(toy_task.ToyTask):
    """With what lies between a ReLU and the pooling over time, as in I3D's res2."""

    def build_model(self):
        inputs = keras.Input((3, 3, 3, 2))
        x = self._conv_bn(inputs, 16, "conv1")
        x = NonLocal3D(name="nonlocal", sub_sample=False)(x)
        x = PaddedMaxPooling3D((2, 1, 1), (1, 1, 1), name="pool2")(x)
        x = self._conv_bn(x, 8, "conv2")
        x = keras.layers.GlobalAveragePooling3D(name="pool")(x)
        x = keras.layers.Dropout(self.task_config.dropout_rate, name="dropout")(x)
        x = keras.layers.Dense(toy_task.NUM_CLASSES, name="pred")(x)
        return keras.Model(inputs, x)

    def _conv_bn(self, x, filters, name):
        x = keras.layers.Conv3D(filters, 1, use_bias=False, name=name)(x)
        return keras.ops.relu(BatchNormalization(name=f"{name}_bn")(x))


def first_step(experiment) -> dict:
    """Momenta, which are the gradients, and moving statistics, by their paths."""
    strategy = distribution.build_strategy(experiment.runtime)
    with strategy.scope():
        trainer = replicas.build(experiment, NonLocalTask)
        trainer.train(tf.constant(1))
    variables = [*trainer.model.non_trainable_variables, *trainer.optimizer.variables]
    return {v.path: v.numpy() for v in variables if "seed" not in v.path}


def main(out):
    _, experiment = config.load_experiment([], OVERRIDES, "toy")
    distribution.configure(experiment.runtime)
    for count in REPLICAS:
        experiment.runtime.num_cpu_devices = count
        np.savez(f"{out}/{count}.npz", **first_step(experiment))


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    out = tmp_path_factory.mktemp("steps")
    subprocess.run(
        [sys.executable, "-m", "tests.trainers.core.test_replica_gradients", out],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        check=True,
        timeout=900,
    )
    return {count: np.load(out / f"{count}.npz") for count in REPLICAS}


@pytest.mark.slow
@pytest.mark.parametrize("count", REPLICAS[1:])
def test_gradients_do_not_depend_on_the_number_of_replicas(steps, count):
    """In two parts: the sum over all examples, up to rounding."""
    one, several = steps[1], steps[count]
    assert set(one.files) == set(several.files) and len(one.files) > 20
    for path in one.files:
        np.testing.assert_allclose(
            several[path], one[path], rtol=2e-6, atol=2e-6, err_msg=path
        )


if __name__ == "__main__":
    main(sys.argv[1])
