"""The modes of `trainers/video.py`."""

import dataclasses
import functools

from trainers.core import files, modes, provenance
from trainers.core.errors import UserError, check_key, warn
from trainers.video_classification import experiments  # noqa: F401 (registers)
from trainers.video_classification.configs import EXPORT_PRECISIONS
from trainers.video_classification.options import Options
from trainers.video_classification.task import VideoClassificationTask


def run(mode: str, options: Options) -> int:
    """Runs a mode; returns the exit code.

    Raises:
        UserError: A mistake that the user can correct.
    """
    return modes.run(mode, options, MODES)


def build_task(experiment, class_names=None):
    """The task of an experiment; its data use the seed of the experiment."""
    return VideoClassificationTask(
        experiment.task, class_names=class_names, seed=experiment.runtime.seed
    )


def export(options, name, experiment):
    """Writes a SavedModel for TF Serving, or a network for another runtime."""
    from trainers.video_classification import export as export_lib
    from trainers.video_classification import runtime_export, runtimes

    check_key("--format", options.format, ("saved_model", *runtimes.RUNTIMES))
    is_saved_model = options.format == "saved_model"
    if is_saved_model and options.precision:
        check_key("--precision", options.precision, EXPORT_PRECISIONS)
        experiment.task.export.precision = options.precision
    task, model = modes.restore_trained(options, experiment, build_task)
    checkpoint = modes.find_checkpoint(options, experiment)
    training = provenance.describe(options.model_dir, name, experiment, checkpoint)
    folder = "export" if is_saved_model else f"export_{options.format}"
    export_dir = options.export_dir or files.join(options.model_dir, folder)
    if is_saved_model:
        written = export_lib.export_saved_model(task, model, export_dir, training)
    else:
        kind = options.format, options.precision
        written = runtime_export.export_network(
            task, model, export_dir, *kind, training
        )
    print(f"Exported to {written}")


def predict(options, name, experiment):
    """Prints, and writes, the most probable classes of videos."""
    from trainers.video_classification import predict as predict_lib
    from trainers.video_classification import predictors

    predict_lib.check(options)  # before the network is built
    checkpoint = modes.find_checkpoint(options, experiment)
    options = dataclasses.replace(options, checkpoint=checkpoint)
    task, model = modes.restore_trained(options, experiment, build_task)
    with_features = bool(options.features)
    predictor = predictors.of_model(task, model, checkpoint, with_features)
    return predict_lib.run(predictor, options)


def visualize(options, name, experiment):
    """Draws what the network attends to in videos."""
    from trainers.video_classification import visualize as visualize_lib

    visualize_lib.check(options)  # before the network is built
    task, model = modes.restore_trained(options, experiment, build_task)
    return visualize_lib.run(task, model, options)


def report(options, name, experiment):
    """Scores the validation videos, and writes `report.html`."""
    _report(options, experiment)


def report_at_end(options, experiment):
    """The same with some of the videos; a failure is a warning."""
    count = experiment.task.report_videos
    if not count:
        return
    try:
        _report(options, experiment, count)
    except Exception as error:  # whatever it is: the training is done
        why = f"{type(error).__name__}: {files.reason(error)}"
        why = str(error) if isinstance(error, UserError) else why
        warn(
            f"the training is done, but the report was not written. {why}\nTo try "
            "again: --mode report."
        )


def _report(options, experiment, max_videos=None):
    from trainers.video_classification import report as report_lib

    data = experiment.task.validation_data.in_training()
    experiment.task.validation_data = data  # one view of each video, by default
    checkpoint = modes.find_checkpoint(options, experiment)
    options = dataclasses.replace(options, checkpoint=checkpoint)
    task, model = modes.restore_trained(options, experiment, build_task)
    folder = options.model_dir
    report_lib.run(task, model, experiment, checkpoint, folder, max_videos)


def benchmark_input(options, name, experiment):
    """Prints the clips per second of each stage of the training input."""
    from trainers.video_classification import input_benchmark

    task = build_task(experiment)
    data, clip = experiment.task.train_data, experiment.task.clip
    seed = experiment.runtime.seed if data.seed is None else data.seed
    stages = input_benchmark.measure(task.train_index, data, clip, seed)
    for line in input_benchmark.report(stages, data, clip):
        print(line)


def check_data(options, name, experiment):
    """Decodes every video of both data sets, and reports what is wrong with them."""
    from trainers.video_classification import check_data as check_data_lib

    task = build_task(experiment)
    return check_data_lib.run(task, options.model_dir, options.as_json)


MODES = {
    "train": functools.partial(modes.train, build_task=build_task),
    "eval": functools.partial(modes.evaluate, build_task=build_task),
    "train_and_eval": functools.partial(
        modes.train, build_task=build_task, evaluate=True, report=report_at_end
    ),
    "export": export,
    "predict": predict,
    "visualize": visualize,
    "dry_run": functools.partial(modes.dry_run, build_task=build_task),
    "report": report,
    "check_data": check_data,
    "benchmark_input": benchmark_input,
}
