"""Checkpoints keyed by the path of each variable.

`tf.train.Checkpoint(model=keras_model)` silently misses Keras 3 layers in lists and
dicts, and the state of dropout seeds. A dict of variables by path has them all, is
readable, and can be compared with a model before a restore.
"""

import re
from collections.abc import Iterable, Mapping

import tensorflow as tf

from keras_nonlocal.convert import CheckpointError, Spelling, load_weights
from trainers.core import checkpoint_files, optimization
from trainers.core.checkpoint_files import VALUE
from trainers.core.errors import UserError

_SAME_CONFIG = (
    "Build the model with the config that it was trained with (its params.yaml)."
)
# Of `load_weights`: its arguments cannot be set where a model is restored.
_RESTORING = Spelling(special=dict.fromkeys(["skip_classifier", "strict", "source"]))
# Keras appends a number that depends on how many the process has created; the rest
# of the path identifies them.
_NUMBERED = re.compile(r"\bseed_generator_\d+\b")


def by_path(variables: Iterable) -> dict:
    """The `tf.Variable` behind each Keras variable, by path.

    Raises:
        ValueError: Two variables share a path, or reading one needs all workers: the
            chief could not save alone.
    """
    named = {}
    for variable in variables:
        path = _NUMBERED.sub("seed_generator", variable.path)
        if path in named:
            raise ValueError(
                f"Two variables have the path {path!r}: a checkpoint would hold only "
                "one of them. Give the layers different names."
            )
        if variable.value.synchronization == tf.VariableSynchronization.ON_READ:
            raise ValueError(f"The variable {path!r} is synchronised when it is read.")
        named[path] = variable.value
    return named


def training_checkpoint(global_step, model, optimizer) -> tf.train.Checkpoint:
    """A checkpoint of the complete state of training."""
    return tf.train.Checkpoint(global_step=global_step, **_groups(model, optimizer))


def _groups(model, optimizer) -> dict[str, dict]:
    """The variables of training by path: those of each group that a checkpoint has."""
    averages = optimization.averages(optimizer)
    known = {id(average) for average in averages.values()}
    others = [x for x in optimizer.variables if id(x.value) not in known]
    groups = {"model": by_path(model.variables), "optimizer": by_path(others)}
    return {**groups, "average": averages} if averages else groups


def restore_training(global_step, model, optimizer, prefix: str):
    """Restores all that `training_checkpoint` saves, from a checkpoint with all of it.

    Raises:
        DamagedError: The checkpoint is damaged; no variable has been changed.
        UserError: It is of another model or optimizer.
    """
    groups = _groups(model, optimizer).items()
    variables = {f"{name}/{x}": y for name, group in groups for x, y in group.items()}
    step = checkpoint_files.step_of(prefix)
    _restore(variables, prefix)
    global_step.assign(step)


def restore_model(model, source: str) -> int:
    """Restores the model alone, with its weights for evaluation.

    Of a checkpoint, these are the averages and the statistics in it, where it has them.

    Args:
        model: Built Keras model; a C2D or I3D for Keras files.
        source: Checkpoint prefix, a folder with checkpoints, a `.keras` or a
            `.weights.h5` file.

    Returns:
        The training step at which it was saved; 0 for Keras files, which have none.

    Raises:
        DamagedError: The checkpoint is damaged.
        UserError: No such file, or one of another model; names the variables that
            differ.
    """
    if source.endswith((".keras", ".weights.h5")):
        _restore_file(model, source)
        return 0
    prefix = checkpoint_files.find(source)
    variables = by_path(model.variables)
    _restore({f"model/{path}": x for path, x in variables.items()}, prefix, "model/")
    for path, value in _replaced(prefix).items():
        variables[path].assign(value)
    return checkpoint_files.step_of(prefix)


def read_model(prefix: str) -> dict:
    """The weights for evaluation in a checkpoint: arrays by variable path.

    Raises:
        UserError: It cannot be read, or was not written by these trainers.
    """
    values = _group(prefix, "model")
    if not values:
        raise UserError(f"{prefix}: a checkpoint without a model of these trainers.")
    return values | _replaced(prefix)


def _replaced(prefix: str) -> dict:
    """The weights for evaluation that differ from those of training."""
    return _group(prefix, "average") | read_statistics(prefix)


def _group(prefix: str, name: str) -> dict:
    values = _values(prefix, f"{name}/")
    return {path.removeprefix(f"{name}/"): value for path, value in values.items()}


# === Statistics for evaluation, beside a checkpoint ===


def statistics_checkpoint(statistics: Mapping) -> tf.train.Checkpoint:
    """A checkpoint of statistics of batch normalisation: variables by path."""
    return tf.train.Checkpoint(statistics=dict(statistics))


def read_statistics(prefix: str) -> dict:
    """The statistics saved beside a checkpoint; empty if there are none.

    Raises:
        DamagedError: They cannot be read.
    """
    prefix = checkpoint_files.statistics_of(prefix)
    return _group(prefix, "statistics") if checkpoint_files.exists(prefix) else {}


def describe(has_averages: bool, has_statistics: bool) -> str:
    """The weights for evaluation, in words."""
    weights = "averaged weights" if has_averages else "weights of training"
    kind = "precise" if has_statistics else "moving"
    return f"{weights}, {kind} statistics of batch normalisation"


def describe_weights(source: str) -> str:
    """The weights that `restore_model` restores, in words."""
    if source.endswith((".keras", ".weights.h5")):
        return "weights of the file"
    prefix = checkpoint_files.find(source)
    has_averages = any(
        x.startswith("average/") for x in checkpoint_files.shapes(prefix)
    )
    statistics = checkpoint_files.statistics_of(prefix)
    return describe(has_averages, checkpoint_files.exists(statistics))


def _restore(variables: Mapping, prefix: str, start: str = ""):
    """Sets variables by path, after all values have been read and compared."""
    expected = {path: tuple(variable.shape) for path, variable in variables.items()}
    _check_shapes(expected, _shapes(prefix, start), prefix)
    for path, value in _values(prefix, start).items():
        variables[path].assign(value)


def _values(prefix: str, start: str = "") -> dict:
    """Arrays by path, of the variables of model and optimizer."""
    found = {_path(key): value for key, value in checkpoint_files.read(prefix, start)}
    return {path: value for path, value in found.items() if path}


def _shapes(prefix: str, start: str) -> dict[str, tuple]:
    found = checkpoint_files.shapes(prefix).items()
    found = {_path(key): shape for key, shape in found if key.startswith(start)}
    return {path: shape for path, shape in found.items() if path}


def _path(key: str) -> str:
    """Path of a variable of model or optimizer; empty for other keys."""
    path = key.removesuffix(VALUE).replace(".S", "/").replace("..", ".")
    return path if key.endswith(VALUE) and "/" in path else ""


def _restore_file(model, source: str):
    """Reads the file without building the model in it, which may hold any code."""
    try:
        report = load_weights(model, source, source="keras_nonlocal")
    except CheckpointError as error:
        advice = f"\n{_SAME_CONFIG}" if error.problems else ""
        raise UserError(f"{error.describe(_RESTORING)}{advice}") from error
    if report.new:
        raise UserError(
            f"The checkpoint {source} is of another model: it has no weights for "
            f"{', '.join(report.new[:8])}. {_SAME_CONFIG}"
        )


def _check_shapes(expected: Mapping, found: Mapping, source: str):
    """Raises `UserError` unless a checkpoint has exactly the model's variables."""
    problems = [
        *(f"{path}: not in the checkpoint" for path in expected.keys() - found.keys()),
        *(f"{path}: not in the model" for path in found.keys() - expected.keys()),
        *(
            f"{path}: {found[path]} in the checkpoint, {expected[path]} in the model"
            for path in expected.keys() & found.keys()
            if found[path] != expected[path]
        ),
    ]
    if problems:
        shown = "\n".join(f"  {problem}" for problem in sorted(problems)[:8])
        more = f"\n  ... and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise UserError(
            f"The checkpoint {source} is of another model: {len(problems)} of "
            f"{len(expected)} variables do not fit.\n{shown}{more}\n"
            f"{_SAME_CONFIG}"
        )
