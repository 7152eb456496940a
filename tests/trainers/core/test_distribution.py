"""Devices and precision follow the config, or the error says why they cannot."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.core import test_runner, toy_task
from trainers.core import checkpoint_files, distribution
from trainers.core.config_definitions import RuntimeConfig
from trainers.core.errors import UserError

ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_keras_3_models_compute_in_the_configured_precision(dtype):
    """The Model Garden's own setter acts on tf_keras only."""
    distribution.configure(RuntimeConfig(mixed_precision_dtype=dtype))
    model = toy_task.ToyTask(toy_task.ToyTaskConfig()).build_model()
    convolved = model.get_layer("conv")(tf.zeros((1, 3, 3, 3, 2)))
    assert convolved.dtype.name == dtype
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    assert model(tf.zeros((1, 3, 3, 3, 2))).dtype == tf.float32


def test_the_seed_decides_the_initial_weights():
    weights = []
    for seed in (1, 1, 2):
        distribution.configure(RuntimeConfig(seed=seed))
        model = toy_task.ToyTask(toy_task.ToyTaskConfig()).build_model()
        weights.append(model.get_weights()[0].tobytes())
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distribution_strategy": "miror"}, "'miror'. Did you mean 'mirrored'"),
        ({"mixed_precision_dtype": "bf16"}, "'bf16'"),
        ({"num_cpu_devices": 0}, "must be positive"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(UserError, match=message):
        distribution.configure(RuntimeConfig(**settings))


def test_more_gpus_than_exist_is_an_error():
    with pytest.raises(UserError, match="num_gpus is 64, but TensorFlow sees"):
        distribution.build_strategy(RuntimeConfig(num_gpus=64))


def test_a_tpu_needs_an_address():
    runtime = RuntimeConfig(distribution_strategy="tpu", num_gpus=0)
    with pytest.raises(UserError, match="runtime.tpu is not set.*`local`"):
        distribution.build_strategy(runtime)


ONE_WORKER = """
import sys
from tests.trainers.core.test_runner import make
runner = make(sys.argv[1], "runtime.distribution_strategy=multi_worker_mirrored")
print(type(runner._strategy).__name__)
runner.train(evaluate=True)
"""


@pytest.mark.slow
def test_one_worker_trains_as_one_device(tmp_path):
    """To the same weights and results, in files of the same names."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    worker = {"cluster": {"worker": [address]}, "task": {"type": "worker", "index": 0}}
    environment = {"PYTHONPATH": str(ROOT), "TF_CONFIG": json.dumps(worker)}
    process = subprocess.run(
        [sys.executable, "-c", ONE_WORKER, tmp_path / "worker"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout.startswith("CollectiveAllReduceStrategy")
    test_runner.make(tmp_path / "alone").train(evaluate=True)
    one, other = (
        json.loads((tmp_path / name / "eval_results.json").read_text())
        for name in ("worker", "alone")
    )
    assert one.pop("weights") == other.pop("weights")
    assert one == pytest.approx(other, rel=1e-5)
    one, other = (
        tf.train.load_checkpoint(str(tmp_path / name / "ckpt-6"))
        for name in ("worker", "alone")
    )
    kernel = f"model/conv.Skernel{checkpoint_files.VALUE}"
    np.testing.assert_allclose(
        one.get_tensor(kernel), other.get_tensor(kernel), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("name", ["one_device", "mirrored"])
def test_one_cpu_is_one_replica(name):
    strategy = distribution.build_strategy(
        RuntimeConfig(distribution_strategy=name, num_gpus=0)
    )
    assert strategy.num_replicas_in_sync == 1
    assert distribution.is_chief(strategy)


def test_synchronising_reaches_every_normalisation():
    model = toy_task.ToyTask(toy_task.ToyTaskConfig()).build_model()
    assert not model.get_layer("bn").synchronized
    distribution.synchronize_batch_norm(model)
    assert model.get_layer("bn").synchronized
