"""Learning rates: the Model Garden's schedules, checked, with warm-up."""

import math
from collections.abc import Mapping

import keras
import tensorflow as tf
from official.modeling.optimization import optimizer_factory

from trainers.core.errors import UserError

_KEY = "trainer.optimizer_config"
_OPTIONAL = ("staircase",)  # None is their default, and means no


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A Model Garden (tf_keras) schedule as a Keras 3 one."""

    def __init__(self, schedule):
        self._schedule = schedule

    def __call__(self, step):
        return tf.cast(self._schedule(tf.cast(step, tf.int64)), tf.float32)


def build_learning_rate(config, scale: float = 1.0, num_steps: int = 1) -> Schedule:
    """The schedule of an `OptimizationConfig`, warm-up included, times `scale`.

    The Model Garden's `stepwise` keeps the old rate at the boundary itself: with
    `boundaries: [150000]`, step 150000 (counted from 0) is the last at the old rate;
    in Caffe2 it is the first at the new one.

    Args:
        config: `OptimizationConfig`.
        scale: Factor of all rates.
        num_steps: Steps of training. The rate is checked at the first and the last,
            and where the schedule changes.

    Raises:
        UserError: No type is set, or its values are invalid; names the field.
    """
    chosen = config.learning_rate
    if chosen.type is None:
        raise UserError(
            f"{_KEY}.learning_rate.type is not set: choose constant, stepwise, "
            "cosine, ..."
        )
    key, values = f"{_KEY}.learning_rate.{chosen.type}", chosen.get().as_dict()
    _check_values(key, values)
    try:
        base = _with_warmup(_base_schedule(chosen.type, values), config)
        schedule = Schedule(lambda step: scale * tf.cast(base(step), tf.float32))
        _check_rates(key, schedule, _steps(config, values, num_steps))
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{key}: {error}") from error
    return schedule


def _base_schedule(kind: str, values: Mapping):
    if kind == "constant":
        return lambda step: values["learning_rate"]
    return optimizer_factory.LR_CLS[kind](**values)


def _with_warmup(schedule, config):
    """The schedule, with its first steps replaced by the warm-up."""
    kind = config.warmup.type
    if kind is None:
        return schedule
    warmup = config.warmup.get()
    _check_values(f"{_KEY}.warmup.{kind}", warmup.as_dict())
    steps = warmup.warmup_steps
    start = getattr(warmup, "warmup_learning_rate", 0.0)
    power = getattr(warmup, "power", 1.0)
    target = tf.cast(schedule(tf.constant(steps, tf.int64)), tf.float32)

    def warmed(step):
        fraction = tf.minimum(tf.cast(step, tf.float32) / steps, 1.0)
        rising = start + (target - start) * fraction**power
        return tf.where(step < steps, rising, tf.cast(schedule(step), tf.float32))

    return warmed


# === Checks ===


def _check_values(key: str, values: Mapping):
    """Raises `UserError` for fields without a value, or with an impossible one."""
    for name, value in values.items():
        if value is None and name not in _OPTIONAL:
            raise UserError(f"{key}.{name} is not set.")
        if name.endswith("_steps") and value < 1:
            raise UserError(f"{key}.{name} must be positive. Received: {value}.")
        if name.endswith("learning_rate") and not _is_rate(value):
            raise UserError(f"{key}.{name} must be at least 0. Received: {value}.")
    if "boundaries" in values:
        _check_stepwise(key, values["boundaries"], values["values"])


def _check_stepwise(key: str, boundaries, rates):
    if len(rates) != len(boundaries) + 1 or list(boundaries) != sorted(set(boundaries)):
        raise UserError(
            f"{key}: `boundaries` must increase, and `values` must have one entry "
            f"more. Received: {boundaries} and {rates}."
        )
    if not all(map(_is_rate, rates)):
        raise UserError(f"{key}.values must be at least 0. Received: {rates}.")


def _is_rate(value) -> bool:
    return 0 <= value < math.inf


def _steps(config, values: Mapping, num_steps: int) -> list[int]:
    """The first and the last step of training, and those where the rate changes."""
    warmup = config.warmup.get().warmup_steps if config.warmup.type else 0
    changes = [warmup, *(values.get("boundaries") or ())]
    steps = {0, 1, num_steps - 1, *(x + i for x in changes for i in (-1, 0, 1))}
    return sorted(step for step in steps if 0 <= step < num_steps)


def _check_rates(key: str, schedule: Schedule, steps: list[int]):
    for step in steps:
        rate = float(schedule(step))
        if not _is_rate(rate):
            raise UserError(
                f"{key}: the learning rate is {rate:g} at step {step}. Expected a "
                "finite rate of at least 0 in every step: change its values, or those "
                f"of {_KEY}.warmup."
            )
