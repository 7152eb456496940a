"""Checkpoints keyed by the path of each variable.

`tf.train.Checkpoint(model=keras_model)` silently misses Keras 3 layers in lists and
dicts, and the state of dropout seeds. A dict of variables by path has them all, is
readable, and can be compared with a model before a restore.
"""

import json
import pathlib
import re
from collections.abc import Iterable, Mapping

import tensorflow as tf

from keras_nonlocal.convert import CheckpointError, Spelling, load_weights
from trainers.core import files
from trainers.core.errors import UserError

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_BEST_INFO = "info.json"
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
        ValueError: Two variables share a path.
    """
    named = {}
    for variable in variables:
        path = _NUMBERED.sub("seed_generator", variable.path)
        if path in named:
            raise ValueError(
                f"Two variables have the path {path!r}: a checkpoint would hold only "
                "one of them. Give the layers different names."
            )
        named[path] = variable.value
    return named


def training_checkpoint(global_step, model, optimizer) -> tf.train.Checkpoint:
    """A checkpoint of the complete state of training."""
    return tf.train.Checkpoint(
        global_step=global_step,
        model=by_path(model.variables),
        optimizer=by_path(optimizer.variables),
    )


def restore_training(global_step, model, optimizer, prefix: str):
    """Restores all that `training_checkpoint` saves, from a checkpoint with all of it.

    Raises:
        UserError: The checkpoint is of another model or optimizer.
    """
    expected = _prefixed("model", by_path(model.variables)) | _prefixed(
        "optimizer", by_path(optimizer.variables)
    )
    found = {path: s for path, s in _shapes(prefix).items() if "/" in path}
    _check_shapes(_shapes_of(expected), found, prefix)
    checkpoint = training_checkpoint(global_step, model, optimizer)
    status = _read(checkpoint, prefix).assert_existing_objects_matched()
    status.expect_partial()  # TensorFlow's own count of saves is not restored


def restore_model(model, source: str):
    """Restores the model alone.

    Args:
        model: Built Keras model; a C2D or I3D for Keras files.
        source: Checkpoint prefix, a folder with checkpoints, a `.keras` or a
            `.weights.h5` file.

    Raises:
        UserError: No such file, or one of another model; names the variables that
            differ.
    """
    if source.endswith((".keras", ".weights.h5")):
        _restore_file(model, source)
    else:
        _restore_prefix(by_path(model.variables), find(source))


def read_model(prefix: str) -> dict:
    """The weights in a checkpoint: arrays by variable path.

    Raises:
        UserError: It cannot be read, or was not written by these trainers.
    """
    reader, paths = _reader(prefix), _model_shapes(prefix)
    if not paths:
        raise UserError(f"{prefix}: a checkpoint without a model of these trainers.")
    try:
        return {path: reader.get_tensor(_key(f"model/{path}")) for path in paths}
    except (tf.errors.OpError, IndexError) as error:
        raise _damaged(prefix, error) from error


def _restore_prefix(variables, prefix: str):
    _check_shapes(_shapes_of(variables), _model_shapes(prefix), prefix)
    _read(tf.train.Checkpoint(model=variables), prefix).expect_partial()


def _read(checkpoint, prefix: str):
    try:
        return checkpoint.read(prefix)
    except (tf.errors.OpError, IndexError) as error:  # IndexError: cut short
        raise _damaged(prefix, error) from error


def _damaged(prefix: str, error) -> UserError:
    return UserError(
        f"{prefix}: the data of this checkpoint is damaged ({error}). Use another one."
    )


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


def find(source: str) -> str:
    """Prefix of the checkpoint at `source`, or of the newest one in that folder.

    Raises:
        UserError: No checkpoint was found.
    """
    prefix = tf.train.latest_checkpoint(source) if tf.io.gfile.isdir(source) else source
    if not prefix or not tf.io.gfile.exists(f"{prefix}.index"):
        raise UserError(
            f"No checkpoint at {source}. Expected the model directory of a training "
            "run, or the path of a checkpoint without `.index`."
        )
    return str(prefix)


def latest(model_dir) -> str | None:
    """Prefix of the newest checkpoint of a model directory; None without any."""
    return tf.train.latest_checkpoint(str(model_dir))


def step_of(prefix: str) -> int:
    """Training step at which a checkpoint was saved."""
    return int(_reader(prefix).get_tensor(f"global_step{_SUFFIX}"))


def _reader(prefix: str):
    try:
        return tf.train.load_checkpoint(prefix)
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(f"{prefix}: not a readable checkpoint: {error}") from error


def _shapes(prefix: str) -> dict[str, tuple]:
    """Shapes of the variables in a checkpoint by path."""
    return {
        key.removesuffix(_SUFFIX).replace(".S", "/").replace("..", "."): tuple(shape)
        for key, shape in _reader(prefix).get_variable_to_shape_map().items()
        if key.endswith(_SUFFIX) and not key.startswith("save_counter")
    }


def _model_shapes(prefix: str) -> dict[str, tuple]:
    return {
        path.removeprefix("model/"): shape
        for path, shape in _shapes(prefix).items()
        if path.startswith("model/")
    }


def _key(path: str) -> str:
    """TensorFlow's key of a variable in a checkpoint; `_shapes` does the inverse."""
    top, path = path.split("/", 1)
    return f"{top}/{path.replace('.', '..').replace('/', '.S')}{_SUFFIX}"


def _shapes_of(variables: Mapping) -> dict[str, tuple]:
    return {path: tuple(variable.shape) for path, variable in variables.items()}


def _prefixed(prefix: str, values: Mapping) -> dict:
    return {f"{prefix}/{path}": value for path, value in values.items()}


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


class Saver:
    """Saves the newest checkpoints of a model directory, and the best.

    TensorFlow writes to another name and renames, so a process that is killed at any
    moment leaves the complete checkpoint of before.

    Args:
        checkpoint: From `training_checkpoint`.
        model_dir: Folder of the newest checkpoints.
        max_to_keep: How many of these to keep.
        best_dir: Folder of the best checkpoint; None keeps none.
        metric: Name of the metric that selects the best.
        higher_is_better: Whether the best has the highest value, or the lowest.
    """

    def __init__(
        self,
        checkpoint,
        model_dir,
        max_to_keep: int,
        best_dir=None,
        metric: str = "",
        higher_is_better: bool = True,
    ):
        self._newest = tf.train.CheckpointManager(
            checkpoint, str(model_dir), max_to_keep=max_to_keep
        )
        self._best = best_dir and tf.train.CheckpointManager(
            checkpoint, str(best_dir), max_to_keep=1, checkpoint_name="best"
        )
        self._info = best_dir and pathlib.Path(best_dir, _BEST_INFO)
        self._metric = metric
        self._sign = 1 if higher_is_better else -1

    def save(self, step: int):
        """Saves a checkpoint, unless this step has been saved already."""
        newest = self._newest.latest_checkpoint
        if not newest or not newest.endswith(f"-{step}"):
            _write(self._newest, step)

    def save_if_best(self, step: int, metrics: Mapping) -> bool:
        """Saves if the metric is better than ever before; a NaN never is."""
        if not self._best:
            return False
        if self._metric not in metrics:
            raise UserError(
                "trainer.best_checkpoint_eval_metric is "
                f"{self._metric!r}; the evaluation gives "
                f"{', '.join(sorted(metrics))}."
            )
        value = float(metrics[self._metric])
        if not self._sign * value > self._sign * self._best_value():
            return False
        _write(self._best, step)
        files.write_json(self._info, {"step": step, **_numbers(metrics)})
        return True

    def _best_value(self) -> float:
        if self._info.is_file() and self._best.latest_checkpoint:
            best = json.loads(self._info.read_text(encoding="utf-8"))
            if self._metric in best:
                return float(best[self._metric])
        return -self._sign * float("inf")


def _write(manager: tf.train.CheckpointManager, step: int):
    try:
        manager.save(checkpoint_number=step)
    except tf.errors.OpError as error:
        reason = (error.message or "").strip().splitlines()[-1:]
        raise UserError(
            f"Cannot write the checkpoint of step {step} to {manager.directory}: "
            f"{' '.join(reason)}. Earlier checkpoints are complete: make room on the "
            "disk, and run the same command again."
        ) from error


def _numbers(metrics: Mapping) -> dict:
    return {key: float(value) for key, value in metrics.items() if _is_number(value)}


def _is_number(value) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
