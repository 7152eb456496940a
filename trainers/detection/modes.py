"""The modes of `trainers/detection.py`."""

import contextlib
import functools

import tensorflow as tf

from trainers.core import files, modes
from trainers.detection import experiments  # noqa: F401 (registers)
from trainers.detection.options import Options
from trainers.detection.task import DetectionTask


def run(mode: str, options: Options) -> int:
    """Runs a mode; returns the exit code.

    Raises:
        UserError: A mistake that the user can correct.
    """
    with _plain_graphs():
        return modes.run(mode, options, MODES)


@contextlib.contextmanager
def _plain_graphs():
    """On CPUs, runs graphs as they are written.

    TensorFlow's optimizer estimates costs, which fails for an unknown number of boxes
    and prints an error for each such operation. Without it, steps take the same time,
    and the first of them starts sooner.
    """
    option = "disable_meta_optimizer"
    is_plain = not tf.config.list_physical_devices("GPU")
    tf.config.optimizer.set_experimental_options({option: is_plain})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({option: False})


def build_task(experiment, class_names=None):
    """The task of an experiment; its data use the seed of the experiment."""
    return DetectionTask(
        experiment.task, class_names=class_names, seed=experiment.runtime.seed
    )


def export(options, name, experiment):
    """Writes a SavedModel for TF Serving."""
    from trainers.detection import export as export_lib

    task, model = modes.restore_trained(options, experiment, build_task)
    export_dir = options.export_dir or files.join(options.model_dir, "export")
    written = export_lib.export_saved_model(task, model, export_dir)
    print(f"Exported to {written}")


def predict(options, name, experiment):
    """Detects the objects in images and videos."""
    from trainers.detection import predict as predict_lib

    task, model = modes.restore_trained(options, experiment, build_task)
    return predict_lib.run(task, model, options)


MODES = {
    "train": functools.partial(modes.train, build_task=build_task),
    "eval": functools.partial(modes.evaluate, build_task=build_task),
    "train_and_eval": functools.partial(
        modes.train, build_task=build_task, evaluate=True
    ),
    "export": export,
    "predict": predict,
    "dry_run": functools.partial(modes.dry_run, build_task=build_task),
}
