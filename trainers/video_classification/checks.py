"""Mistakes in a task's config that would show at the first evaluation, or never."""

from official.core.config_definitions import TaskConfig

from keras_nonlocal.models import CONVENTIONS
from trainers.core.errors import UserError, did_you_mean
from trainers.video_classification.evaluation import AGGREGATIONS

# What `init_checkpoint_modules` leaves as it was initialised.
NEW_LAYERS = {"all": (), "backbone": ("pred",)}


def check_config(params):
    """Checks a `VideoClassificationConfig` as far as its fields tell.

    Raises:
        UserError: Names the field and what it may be.
    """
    _check_no_effect(params)
    if params.train_data.is_multilabel != params.validation_data.is_multilabel:
        raise UserError(
            "task.train_data.is_multilabel and task.validation_data.is_multilabel "
            "differ: set both."
        )
    _check_choice("init_checkpoint_modules", params, NEW_LAYERS)
    _check_choice("view_aggregation", params.evaluation, AGGREGATIONS, "evaluation.")
    _check_choice("convention", params.model, CONVENTIONS, "model.")
    if not 0 <= params.losses.label_smoothing < 1:
        raise UserError(
            "task.losses.label_smoothing must be in [0, 1). Received: "
            f"{params.losses.label_smoothing}."
        )


def _check_choice(name, config, choices, prefix=""):
    value = getattr(config, name)
    if value not in choices:
        raise UserError(
            f"task.{prefix}{name} is {value!r}.{did_you_mean(value, choices)}"
        )


def _check_no_effect(params):
    """Fields of the Model Garden that nothing here reads keep their defaults."""
    default = TaskConfig()
    for name in ("name", "differential_privacy_config", "allow_image_summary"):
        value, kept = getattr(params, name), getattr(default, name)
        if value != kept:
            raise UserError(
                f"task.{name} has no effect here: leave it at {kept}. "
                f"Received: {value!r}."
            )
    for name, other in (("train_data", False), ("validation_data", True)):
        if getattr(params, name).is_training is other:
            raise UserError(
                f"task.{name}.is_training is {other}, but what is read there is "
                f"decided by where it stands: leave it out, or set it to {not other}."
            )
