"""Mistakes in a `TrainerConfig`, found before the first step rather than at it."""

from trainers.core.errors import UserError, check_choice

_COUNTS = (
    "train_steps",
    "steps_per_loop",
    "checkpoint_interval",
    "validation_interval",
    "max_to_keep",
    "gradient_accumulation_steps",
)
_COMPARISONS = ("higher", "lower")


def check_training(trainer, task):
    """Checks what training reads; the best checkpoint's metric is the task's.

    Args:
        trainer: `TrainerConfig`.
        task: `trainers.core.task.Task`.

    Raises:
        UserError: Names the field and what it may be.
    """
    for name in _COUNTS:
        value = getattr(trainer, name)
        if value < 1:
            raise UserError(f"trainer.{name} must be positive. Received: {value}.")
    check_evaluation(trainer)
    _check_best(trainer, task)


def check_parts(config, num_replicas: int):
    """Checks that a batch can be dealt out to replicas, and then into parts.

    Raises:
        UserError: Says what the batch must be a multiple of.
    """
    parts = config.trainer.gradient_accumulation_steps
    batch = config.task.train_data.global_batch_size
    if parts > 1 and batch % (num_replicas * parts):
        raise UserError(
            f"task.train_data.global_batch_size is {batch}, which cannot be computed "
            f"in trainer.gradient_accumulation_steps={parts} equal parts on each of "
            f"{num_replicas} replicas: choose a multiple of {num_replicas * parts}."
        )


def check_evaluation(trainer):
    """Checks what evaluation reads.

    Raises:
        UserError: Names the field and what it may be.
    """
    steps = trainer.validation_steps
    if steps < 1 and steps != -1:
        raise UserError(
            "trainer.validation_steps must be positive, or -1 for the whole set. "
            f"Received: {steps}."
        )


def _check_best(trainer, task):
    metric = trainer.best_checkpoint_eval_metric
    comparison = trainer.best_checkpoint_metric_comp
    check_choice("trainer.best_checkpoint_metric_comp", comparison, _COMPARISONS)
    if metric and metric not in task.metric_names:
        raise UserError(
            f"trainer.best_checkpoint_eval_metric is {metric!r}. Expected one of: "
            f"{', '.join(task.metric_names)}; or nothing, for {task.best_metric}."
        )
    if not metric and comparison != "higher":
        raise UserError(
            f"trainer.best_checkpoint_metric_comp is {comparison!r}, but of no "
            "metric: set trainer.best_checkpoint_eval_metric too."
        )
