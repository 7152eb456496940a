"""Every wrong value is named before the first step; right ones pass."""

import re

import pytest

from tests.trainers.core import toy_task
from trainers.core import config
from trainers.core.errors import UserError

TASK = toy_task.ToyTask(toy_task.ToyTaskConfig())


def check(**settings):
    overrides = [f"trainer.{name}={value}" for name, value in settings.items()]
    _, experiment = config.load_experiment([], overrides, "toy")
    experiment.trainer.check_training(TASK)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"validation_steps": -1},
        {"validation_steps": 1},
        {"best_checkpoint_eval_metric": "num_examples"},
        {"best_checkpoint_eval_metric": "loss"},
        {
            "best_checkpoint_eval_metric": "loss",
            "best_checkpoint_metric_comp": "lower",
        },
    ],
)
def test_right_settings_pass(settings):
    check(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_steps": 0}, "trainer.train_steps must be positive. Received: 0."),
        ({"steps_per_loop": 0}, "trainer.steps_per_loop must be positive"),
        ({"checkpoint_interval": -5}, "checkpoint_interval must be positive"),
        ({"validation_interval": 0}, "validation_interval must be positive"),
        ({"max_to_keep": 0}, "trainer.max_to_keep must be positive"),
        (
            {"validation_steps": 0},
            "trainer.validation_steps must be positive, or -1 for the whole set. "
            "Received: 0.",
        ),
        ({"validation_steps": -2}, "Received: -2."),
        (
            {"best_checkpoint_metric_comp": "lowr"},
            "trainer.best_checkpoint_metric_comp is 'lowr'. Did you mean 'lower'?",
        ),
        (
            {"best_checkpoint_metric_comp": "lower"},
            "but no metric is selected: set trainer.best_checkpoint_eval_metric too",
        ),
        (
            {
                "best_checkpoint_eval_metric": "loss",
                "best_checkpoint_metric_comp": "higher",
            },
            "trainer.best_checkpoint_metric_comp is 'higher', but the lowest loss is",
        ),
        (
            {"best_checkpoint_export_subdir": "train"},
            "trainer.best_checkpoint_export_subdir is 'train', the folder of curves",
        ),
        (
            {"best_checkpoint_export_subdir": "validation"},
            "trainer.best_checkpoint_export_subdir is 'validation', the folder of",
        ),
        (
            {"best_checkpoint_eval_metric": "top2"},
            "trainer.best_checkpoint_eval_metric is 'top2'. Expected one of: "
            "accuracy, loss, num_examples; or nothing, for accuracy.",
        ),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        check(**settings)
