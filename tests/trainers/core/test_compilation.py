"""Steps compiled whole by XLA, which takes no operation of the host, and no Python."""

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.core.replicas import STEPS, build
from trainers.core import config, distribution
from trainers.core.errors import UserError

PARTS = (
    "trainer.gradient_accumulation_steps=2",
    "trainer.recompute_activations=true",
)
SGD = "trainer.optimizer_config.optimizer.sgd"
RUNS = {
    "clipped_parts": (*PARTS, f"{SGD}.global_clipnorm=0.01", f"{SGD}.weight_decay=0.1"),
    # A bias before batch normalisation has rounding for a gradient, which AdamW scales.
    "adamw": ("trainer.optimizer_config.optimizer.type=adamw", "task.batch_norm=false"),
    "overflow": ("runtime.mixed_precision_dtype=float16", "task.overflow_step=1"),
}


def train_and_evaluate(*overrides):
    """Results of both, and all variables."""
    _, experiment = config.load_experiment([], overrides, "toy")
    experiment.task.validation_data.is_training = False
    distribution.configure(experiment.runtime)
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        trainer = build(experiment)
        logs = trainer.train(tf.constant(STEPS))
        results = trainer.evaluate(tf.constant(-1))
    variables = [*trainer.model.variables, *trainer.optimizer.variables]
    return logs, results, {v.path: v.numpy() for v in variables}


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=[pytest.mark.slow] * (x != "adamw")) for x in RUNS],
)
def test_compiled_steps_give_the_same_numbers(name):
    """Weights, statistics, momentum, loss scale; clipping, decay, a skipped step."""
    plain = train_and_evaluate(*RUNS[name])
    compiled = train_and_evaluate("runtime.enable_xla=true", *RUNS[name])
    tolerance = 2e-3 if name == "overflow" else 2e-6  # float16 rounds by itself
    for path, value in plain[2].items():
        np.testing.assert_allclose(
            compiled[2][path], value, rtol=tolerance, atol=tolerance, err_msg=path
        )
    for key in ("loss", "accuracy", "gradient_norm"):
        assert compiled[0][key] == pytest.approx(plain[0][key], rel=tolerance)
    assert compiled[1] == pytest.approx(plain[1], rel=tolerance)


def test_enable_xla_compiles_both_steps():
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        for enabled in (True, False):
            override = f"runtime.enable_xla={enabled}".lower()
            _, experiment = config.load_experiment([], [override], "toy")
            trainer = build(experiment)
            clip = {"x": tf.zeros((4, 3, 3, 3, 2)), "y": tf.zeros(4, tf.int64)}
            inputs = clip | {"weight": tf.ones(4), "step": tf.zeros(4, tf.int64)}
            trainer._inference_model = trainer.model
            for step in (trainer._train_step, trainer._eval_step):
                if enabled:
                    assert (
                        "HloModule" in step.experimental_get_compiler_ir(inputs, None)()
                    )
                else:
                    with pytest.raises(ValueError, match="jit_compile=True"):
                        step.experimental_get_compiler_ir(inputs, None)


def test_replicas_and_eager_steps_cannot_be_compiled():
    overrides = ["runtime.enable_xla=true", "runtime.run_eagerly=true"]
    _, experiment = config.load_experiment([], overrides, "toy")
    with pytest.raises(UserError, match="enable_xla compiles graphs.*run_eagerly"):
        experiment.runtime.check()
    with pytest.raises(UserError, match="there are 2 replicas.*set it to false"):
        experiment.runtime.check_xla(num_replicas=2)
    experiment.runtime.distribution_strategy = "tpu"
    experiment.runtime.check_xla(num_replicas=8)


def test_the_host_of_a_tpu_is_not_made_deterministic():
    from tensorflow.python.framework import config as tf_config  # only it can tell

    for strategy, expected in (("one_device", True), ("tpu", False)):
        overrides = [f"runtime.distribution_strategy={strategy}", "runtime.tpu=local"]
        _, experiment = config.load_experiment([], overrides, "toy")
        tf_config.disable_op_determinism()
        distribution.configure(experiment.runtime)
        assert tf_config.is_op_determinism_enabled() is expected
