"""Learning rates by step, and the values that no training can use."""

import re

import numpy as np
import pytest

from tests.trainers.core.rates import stepwise
from trainers.core.config_definitions import OptimizationConfig
from trainers.core.errors import UserError
from trainers.core.schedules import build_learning_rate


def rates(config, steps):
    schedule = build_learning_rate(config)
    return [float(schedule(step)) for step in steps]


def test_stepwise_rate_with_linear_warmup():
    config = stepwise()
    config.learning_rate.stepwise.boundaries = [10]
    config.warmup.type = "linear"
    config.warmup.linear.warmup_steps = 4
    config.warmup.linear.warmup_learning_rate = 0.02
    expected = [0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.01]
    assert rates(config, [0, 1, 2, 3, 4, 10, 11]) == pytest.approx(expected)


def test_cosine_rate():
    config = OptimizationConfig()
    config.learning_rate.type = "cosine"
    config.learning_rate.cosine.initial_learning_rate = 0.4
    config.learning_rate.cosine.decay_steps = 100
    expected = [0.2 * (1 + np.cos(np.pi * step / 100)) for step in (0, 25, 50, 100)]
    assert rates(config, [0, 25, 50, 100]) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (None, {}, "learning_rate.type is not set"),
        ("cosine", {}, r"learning_rate\.cosine\.initial_learning_rate is not set"),
        (
            "stepwise",
            {"boundaries": [5, 2], "values": [1.0, 2.0, 3.0]},
            "must increase",
        ),
        ("stepwise", {"boundaries": [5], "values": [1.0]}, "one entry more"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(kind, values, message):
    config = OptimizationConfig()
    config.learning_rate.type = kind
    if values:
        getattr(config.learning_rate, kind).override(values)
    with pytest.raises(UserError, match=message):
        build_learning_rate(config)


def test_warmup_without_steps_is_refused():
    config = stepwise()
    config.warmup.type = "linear"
    with pytest.raises(UserError, match="warmup_steps"):
        build_learning_rate(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"cosine": {"initial_learning_rate": -1.0, "decay_steps": 5}},
            "learning_rate.cosine.initial_learning_rate must be at least 0. "
            "Received: -1.0.",
        ),
        (
            {"cosine": {"initial_learning_rate": 1.0, "decay_steps": 0}},
            "learning_rate.cosine.decay_steps must be positive. Received: 0.",
        ),
        (
            {"constant": {"learning_rate": float("nan")}},
            "learning_rate.constant.learning_rate must be at least 0. Received: nan.",
        ),
        (
            {"stepwise": {"boundaries": [5], "values": [1.0, -1.0]}},
            "learning_rate.stepwise.values must be at least 0. Received: [1.0, -1.0].",
        ),
        (
            {
                "exponential": {
                    "initial_learning_rate": 1.0,
                    "decay_steps": 1,
                    "decay_rate": -2.0,
                }
            },
            "learning_rate.exponential: the learning rate is -2 at step 1.",
        ),
        (
            {"cosine": {"initial_learning_rate": 1.0, "decay_steps": 9, "alpha": -1}},
            "learning_rate.cosine: the learning rate is -1 at step 19.",
        ),
    ],
)
def test_a_rate_that_is_negative_or_not_finite_is_refused(values, message):
    config = OptimizationConfig()
    ((config.learning_rate.type, fields),) = values.items()
    config.learning_rate.get().override(fields)
    with pytest.raises(UserError, match=re.escape(message)):
        build_learning_rate(config, num_steps=20)


def test_a_rate_of_0_is_allowed():
    config = OptimizationConfig()
    config.learning_rate.type = "constant"
    config.learning_rate.constant.learning_rate = 0.0
    assert float(build_learning_rate(config)(0)) == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("warmup_steps", -1, "must be positive. Received: -1."),
        ("warmup_learning_rate", -0.5, "must be at least 0. Received: -0.5."),
    ],
)
def test_a_wrong_value_of_the_warmup_is_named(field, value, message):
    config = stepwise()
    config.warmup.type = "linear"
    config.warmup.linear.override({"warmup_steps": 4, field: value})
    message = f"trainer.optimizer_config.warmup.linear.{field} {message}"
    with pytest.raises(UserError, match=re.escape(message)):
        build_learning_rate(config)
