"""Mistakes in a task's config that would show at the first evaluation, or never."""

from official.core.config_definitions import TaskConfig

from keras_nonlocal.convert.sources import SOURCES
from keras_nonlocal.models import CONVENTIONS
from trainers.core.errors import UserError, check_choice
from trainers.video_classification.evaluation import AGGREGATIONS

MODULES = ("all", "backbone")
EXPORT_PRECISIONS = ("float32", "bfloat16")


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
    aggregation = params.evaluation.view_aggregation
    _check_start(params)
    check_choice("task.evaluation.view_aggregation", aggregation, AGGREGATIONS)
    check_choice("task.model.convention", params.model.convention, CONVENTIONS)
    if params.export.precision is not None:
        key = "task.export.precision"
        check_choice(key, params.export.precision, EXPORT_PRECISIONS)
    if not 0 <= params.losses.label_smoothing < 1:
        raise UserError(
            "task.losses.label_smoothing must be in [0, 1). Received: "
            f"{params.losses.label_smoothing}."
        )


def _check_start(params):
    """What training starts from, and what of it stays."""
    key = "task.init_checkpoint_modules"
    check_choice(key, params.init_checkpoint_modules, MODULES)
    key = "task.init_checkpoint_source"
    check_choice(key, params.init_checkpoint_source, ("auto", *SOURCES))
    key = "task.init_checkpoint_pixels"
    check_choice(key, params.init_checkpoint_pixels, ("same", "any"))
    for name in ("freeze_backbone", "freeze_batch_norm"):
        if getattr(params, name) and not params.init_checkpoint:
            raise UserError(
                f"task.{name} is true, but there is nothing trained to keep: set "
                "task.init_checkpoint."
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
