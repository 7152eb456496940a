"""The steps of a non-local I3D, compiled whole by XLA as for a TPU.

XLA on a CPU stands in for a TPU: it takes static shapes alone, and no operation of the
host. Strategies and transfers of a TPU are not covered.
"""

import numpy as np
import pytest
import tensorflow as tf

from trainers.core import distribution
from trainers.core.config import load_experiment
from trainers.core.runner import Runner
from trainers.video_classification import modes

PARTS = (
    "trainer.recompute_activations=true",
    "trainer.gradient_accumulation_steps=2",
)
BFLOAT16 = ("runtime.mixed_precision_dtype=bfloat16",)


def runner(path, folder, *overrides):
    overrides = (
        "task.model.dropout_rate=0.0",  # XLA draws other masks
        "trainer.optimizer_config.optimizer.sgd.global_clipnorm=1",
        "runtime.deterministic=false",
        *overrides,
    )
    _, experiment = load_experiment([str(path)], overrides)
    distribution.configure(experiment.runtime)
    strategy = distribution.build_strategy(experiment.runtime)
    task = modes.build_task(experiment)
    return Runner(experiment, task, strategy, folder)


def step_and_scores(runner):
    """Results and variables of a training step, and the metrics after it."""
    logs = runner.trainer.train(tf.constant(1))
    trainer = runner.trainer
    variables = [*trainer.model.variables, *trainer.optimizer.variables]
    values = {variable.path: variable.numpy() for variable in variables}
    return logs, values, trainer.evaluate(tf.constant(-1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "tolerance"),
    [(PARTS, 1e-5), ((*PARTS, *BFLOAT16), 1e-3)],
    ids=["float32", "bfloat16"],
)
def test_compiled_steps_give_the_same_numbers(config, tmp_path, overrides, tolerance):
    """Recomputed, in parts, clipped; all test views, the last batch filled up."""
    plain = runner(config, tmp_path, *overrides)
    compiled = runner(config, tmp_path, *overrides, "runtime.enable_xla=true")
    (logs, values, scores), (their_logs, theirs, their_scores) = map(
        step_and_scores, (plain, compiled)
    )
    for name, value in values.items():
        np.testing.assert_allclose(
            theirs[name], value, rtol=tolerance, atol=tolerance, err_msg=name
        )
    for name in ("loss", "gradient_norm"):
        assert their_logs[name] == pytest.approx(logs[name], rel=tolerance)
    assert their_scores["validation_loss"] == pytest.approx(
        scores["validation_loss"], rel=10 * tolerance
    )
    assert their_scores["num_videos"] == scores["num_videos"]


def test_batches_have_static_shapes_on_every_replica(config):
    """Training batches are full, those of tests filled up: eight replicas of one."""
    _, experiment = load_experiment([str(config)])
    task = modes.build_task(experiment)
    context = tf.distribute.InputContext(2, 1, 8)
    for data in (experiment.task.train_data, experiment.task.validation_data):
        data.global_batch_size = 16
        spec = task.build_inputs(data, context).element_spec
        assert {x.shape[0] for x in spec.values()} == {2}
        assert all(x.shape.is_fully_defined() for x in spec.values())
        assert spec["clip"].dtype == tf.uint8
