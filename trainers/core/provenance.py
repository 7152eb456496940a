"""Where a trained network comes from, for the files of its export."""

import pathlib
import platform
import subprocess
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

import keras_nonlocal
from trainers.core import checkpoint_files, config, files
from trainers.core.errors import UserError
from trainers.core.runner import RESULTS_FILE

_ROOT = pathlib.Path(__file__).parents[2]


def describe(model_dir: str, name: str, experiment, checkpoint: str) -> dict:
    """What is known of a checkpoint, for JSON.

    Args:
        model_dir: Of the training.
        name: Of the experiment's factory.
        experiment: `ExperimentConfig`.
        checkpoint: Prefix of the checkpoint, or a Keras file.
    """
    start = experiment.task.init_checkpoint
    licence = getattr(experiment.task, "init_checkpoint_licence", "")
    step = checkpoint_files.number(checkpoint)
    return {
        "experiment": name,
        "checkpoint": checkpoint,
        "step": step,
        "metrics": _metrics(model_dir, checkpoint, step),
        "starting_weights": start or None,
        "starting_weights_licence": licence or None,
        **versions(),
        "config": config.to_dict(experiment),
    }


def versions() -> dict:
    """Versions of what the network was made with, and the git revision."""
    return {
        "versions": {
            "python": platform.python_version(),
            "keras_nonlocal": keras_nonlocal.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
        "git_revision": git_revision(),
    }


def git_revision() -> str | None:
    """The commit of this checkout; `-dirty` if files have changed. None: unknown."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=_ROOT, capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    is_own = (_ROOT / ".git").exists()  # not of a project that this one lies in
    return done.stdout.strip() or None if is_own and not done.returncode else None


def _metrics(model_dir: str, checkpoint: str, step: int | None) -> dict:
    """The numbers of an evaluation of this step, if one is saved."""
    beside = files.join(checkpoint.rpartition("/")[0], "info.json")  # of the best
    for path in (files.join(model_dir, RESULTS_FILE), beside):
        try:
            found = files.read_json(path) if files.is_file(path) else {}
        except UserError:  # metrics are lost, which is no reason not to export
            continue
        if isinstance(found, Mapping) and step is not None:
            numbers = {key: x for key, x in found.items() if _is_number(x)}
            if numbers.pop("step", None) == step:
                return numbers
    return {}


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
