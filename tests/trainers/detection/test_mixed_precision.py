"""Losses in mixed precision: those of float32 but for rounding, boxes exact."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainers.core import config
from trainers.detection.modes import build_task

# Everything is sampled, so that rounding changes no choice.
EVERYTHING = (
    "task.sampling.rpn_batch_size=100000",
    "task.sampling.box_batch_size=5000",
)
# Relative to float32, of each loss; float16 has three bits more than bfloat16.
TOLERANCES = {"mixed_bfloat16": 3e-2, "mixed_float16": 4e-3}
# Their outputs decide on the proposals, and are compared with coded boxes.
HEADS = ("rpn_logits", "rpn_deltas", "box_logits", "box_deltas")


@pytest.fixture(scope="module")
def task(request):
    path = request.getfixturevalue("config")
    return build_task(config.load_experiment([str(path)], EVERYTHING)[1])


@pytest.fixture(scope="module")
def batch(task):
    return next(iter(task.build_inputs(task.task_config.train_data)))


def build(task, policy):
    keras.config.set_dtype_policy(policy)
    try:
        return task.build_model()
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def model(task):
    keras.utils.set_random_seed(0)
    return task.build_model()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("mixed_bfloat16", marks=pytest.mark.slow),
        pytest.param("mixed_float16", marks=pytest.mark.hostile),
    ],
)
def mixed(request, task, model):
    """`(policy, model)` of the same weights as `model`."""
    other = build(task, request.param)
    for ours, theirs in zip(other.variables, model.variables, strict=True):
        ours.assign(theirs)
    return request.param, other


def losses(task, model, batch):
    """Total, and the mean of each."""
    total, values = task.forward(batch, model, training=True)
    means = {name: float(tf.reduce_mean(value)) for name, value in values.items()}
    return tf.reduce_mean(total), means


def test_losses_are_those_of_float32_but_for_rounding(task, model, mixed, batch):
    policy, other = mixed
    assert {x.dtype for x in other.trainable_variables} == {"float32"}
    _, expected = losses(task, model, batch)
    with tf.GradientTape() as tape:
        loss, found = losses(task, other, batch)
    variables = [variable.value for variable in other.trainable_variables]
    gradients = tape.gradient(loss, variables)
    assert len(found) == 5
    for name, value in found.items():
        np.testing.assert_allclose(
            value, expected[name], rtol=TOLERANCES[policy], err_msg=name
        )
    assert all(np.isfinite(x).all() and x.dtype == "float32" for x in gradients)
    assert found != expected  # the networks do compute in mixed precision


def test_boxes_are_coded_in_float32(task, model, mixed, batch):
    """Of heads that predict 0, losses are those of the targets alone, bit for bit."""
    _, other = mixed
    kept = [variable.numpy() for variable in model.variables]
    for network in (model, other):
        for variable in network.variables:
            if variable.path.split("/")[0] in HEADS:
                variable.assign(tf.zeros_like(variable))
    _, expected = losses(task, model, batch)
    _, found = losses(task, other, batch)
    for variable, value in zip(model.variables, kept, strict=True):
        variable.assign(value)
    for name in ("rpn_box_loss", "box_loss"):
        assert found[name] == expected[name] > 0
