"""The modes of `trainers/video.py`."""

import contextlib
import dataclasses
import sys

import keras
import tensorflow as tf

from keras_nonlocal import describe
from trainers.core import (
    agreement,
    checkpoint_files,
    checkpoints,
    cluster,
    config,
    distribution,
    files,
)
from trainers.core.errors import UserError, did_you_mean, warn
from trainers.core.lock import only_one
from trainers.core.runner import Runner, build_optimizer, check_training
from trainers.video_classification import experiments  # noqa: F401 (registers)
from trainers.video_classification.data import (
    CLASS_FILE,
    DataError,
    are_trained_classes,
    describe_changes,
    read_trained_classes,
    write_trained_classes,
)
from trainers.video_classification.task import VideoClassificationTask

_UNTRAINED = ("train", "train_and_eval", "dry_run", "check_data", "benchmark_input")


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags of the command."""

    model_dir: str
    config_files: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    experiment: str | None = None
    checkpoint: str = ""
    export_dir: str = ""
    paths: tuple[str, ...] = ()
    top_k: int = 5
    as_json: bool = False
    print_config: bool = False


def run(mode: str, options: Options) -> int:
    """Runs a mode; returns the exit code.

    Raises:
        UserError: A mistake that the user can correct.
    """
    if mode not in MODES:
        raise UserError(f"Unknown --mode {mode!r}.{did_you_mean(mode, MODES)}")
    name, experiment = _load(mode, options)
    distribution.configure(experiment.runtime)
    return MODES[mode](options, name, experiment) or 0


def _load(mode, options):
    """The config given by the flags, or the one saved in the model directory."""
    paths = list(options.config_files)
    saved = files.join(options.model_dir, config.PARAMS_FILE)
    if not paths and not options.experiment:
        if files.is_file(saved):
            _check_params(options.model_dir)
            paths = [saved]
        elif mode not in _UNTRAINED:
            raise UserError(
                f"No --config, and no {config.PARAMS_FILE} in {options.model_dir}: "
                "nothing has been trained there."
            )
    return config.load_experiment(paths, options.overrides, options.experiment)


def _check_params(model_dir):
    try:
        config.read_params(model_dir)
    except UserError as error:
        advice = "Give the --config and overrides of the training."
        raise UserError(f"{error} {advice}") from error


# === Modes ===


def train(options, name, experiment, evaluate=False):
    """Trains; resumes the run in the model directory, if any."""
    cluster.check_named(experiment.runtime)
    strategy = distribution.build_strategy(experiment.runtime)
    is_chief = distribution.is_chief(strategy)
    alone = only_one(options.model_dir) if is_chief else contextlib.nullcontext()
    with agreement.ending_together(strategy), alone:
        task = build_task(experiment)
        setup = _setup(task, name, experiment)
        setup["training videos"] = task.train_index.lines()
        if evaluate:  # errors of this index are raised now, not hours later
            setup["validation videos"] = task.validation_index.lines()
        agreement.check_same(strategy, setup)
        runner = Runner(experiment, task, strategy, options.model_dir)
        if is_chief:
            _save_setup(task, name, experiment, options.model_dir)  # after all checks
        try:
            runner.train(evaluate)
        finally:
            _print_report(task)
        if is_chief:
            print(f"At step {runner.step}; see {options.model_dir}", file=sys.stderr)


def train_and_eval(options, name, experiment):
    """Trains, evaluates every `validation_interval` steps, and keeps the best."""
    train(options, name, experiment, evaluate=True)


def evaluate(options, name, experiment):
    """Evaluates a checkpoint; prints a table, writes `eval_results.json`."""
    strategy = distribution.build_strategy(experiment.runtime)
    with agreement.ending_together(strategy):
        task = _trained_task(options, experiment)
        checkpoint = _checkpoint(options, experiment)
        setup = _setup(task, name, experiment)
        setup["validation videos"] = task.validation_index.lines()
        agreement.check_same(strategy, {"checkpoint": [checkpoint], **setup})
        runner = Runner(experiment, task, strategy, options.model_dir, train=False)
        if distribution.is_chief(strategy):
            _announce("Evaluating", checkpoint)
        runner.evaluate(checkpoint)
        _print_report(task)


def export(options, name, experiment):
    """Writes a SavedModel for TF Serving."""
    from trainers.video_classification import export as export_lib

    task, model = _trained(options, experiment)
    export_dir = options.export_dir or files.join(options.model_dir, "export")
    written = export_lib.export_saved_model(task, model, export_dir)
    print(f"Exported to {written}")


def predict(options, name, experiment):
    """Prints the most probable classes of videos."""
    from trainers.video_classification import predict as predict_lib

    task, model = _trained(options, experiment)
    return predict_lib.run(task, model, options.paths, options.top_k, options.as_json)


def dry_run(options, name, experiment):
    """Prints the network, one batch of each data set, and the settings that were made.

    The model is initialised as in training: from `init_checkpoint`, if it is set.
    """
    changed = config.changed_settings(experiment, name)  # before tasks fill in more
    task = build_task(experiment)
    strategy = distribution.build_local_strategy(experiment.runtime)
    check_training(experiment, task, strategy.num_replicas_in_sync)
    build_optimizer(experiment)  # raises its errors
    clip, side = experiment.task.clip, experiment.task.train_data.crop_size
    model = task.build_model((clip.num_frames, side, side, 3))
    print(describe(model), end="\n\n")
    model = task.build_model()
    task.initialize(model)
    for data in (experiment.task.train_data, experiment.task.validation_data):
        _print_batch(task, model, data)
    print("", f"Settings that differ from those of {name}:", sep="\n")
    print(*(f"  {line}" for line in changed or ["none"]), sep="\n")
    if options.print_config:
        print("", config.to_yaml(experiment, name), sep="\n")
    _print_report(task)


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
    "train": train,
    "eval": evaluate,
    "train_and_eval": train_and_eval,
    "export": export,
    "predict": predict,
    "dry_run": dry_run,
    "check_data": check_data,
    "benchmark_input": benchmark_input,
}


# === Parts ===


def _print_report(task):
    for line in task.report():
        print(line, file=sys.stderr)


def _print_batch(task, model, data):
    kind = "train" if data.is_training else "validation"
    try:
        batch = next(iter(task.build_inputs(data)))
    except Exception:
        task.check_inputs()
        raise
    print(f"{kind}_data, one batch:")
    for key, value in batch.items():
        print(f"  {key:<8}{value.dtype.name:<9}{tuple(value.shape)}")
    losses, _ = task.forward(batch, model, training=False)
    print(f"  loss    {float(losses.numpy().mean()):.4f} before training")


def _setup(task, name, experiment) -> dict[str, list[str]]:
    """What all workers must have the same: lines by name."""
    return {
        "versions": [f"{x.__name__} {x.__version__}" for x in (tf, keras)],
        "config": config.lines(experiment, name),
        "classes": list(task.class_names),
    }


def _save_setup(task, name, experiment, model_dir):
    """Saves the config and the classes, after comparing them with the saved ones."""
    path = files.join(model_dir, CLASS_FILE)
    if checkpoint_files.prefixes(model_dir):
        _check_config(name, experiment, model_dir)
        _check_classes(path, task.class_names)
    write_trained_classes(model_dir, task.class_names)
    config.save_params(experiment, name, model_dir)


def _check_config(name, experiment, model_dir):
    try:
        changed = config.differences(experiment, name, model_dir)
    except UserError as error:
        warn(f"{error} It is written again, from the config of this run.")
        return
    listed = "\n".join(f"  {line}" for line in changed)
    if any(line.startswith(("task.model.", "experiment:")) for line in changed):
        raise UserError(
            f"{model_dir} has a model of another config:\n{listed}\nTrain in "
            "another --model_dir, or go back to the config in its params.yaml."
        )
    if changed:
        warn(f"resuming with another config:\n{listed}")


def _check_classes(path, new):
    if not files.is_file(path):
        return
    try:
        old = read_trained_classes(path)
    except UserError as error:
        if not are_trained_classes(path, new):
            raise UserError(
                f"{error} The training data have other classes than the training had, "
                "too. Bring it back, or train in another --model_dir."
            ) from error
        warn(f"{error} It is written again, from the training data.")
        return
    if old != tuple(new):
        raise UserError(
            f"The classes have changed since {path} was written "
            f"({describe_changes(old, new)}). Train in another --model_dir."
        )


def build_task(experiment, class_names=None):
    """The task of an experiment; its data use the seed of the experiment."""
    return VideoClassificationTask(
        experiment.task, class_names=class_names, seed=experiment.runtime.seed
    )


def _trained_task(options, experiment):
    """The task with the classes that the model was trained with."""
    path = files.join(options.model_dir, CLASS_FILE)
    if not files.is_file(path):
        raise UserError(
            f"No {CLASS_FILE} in {options.model_dir}: nothing has been trained there."
        )
    try:
        return build_task(experiment, read_trained_classes(path))
    except DataError as error:
        raise UserError(
            f"{error} Training writes it again: run it once more."
        ) from error


def _trained(options, experiment):
    task = _trained_task(options, experiment)
    checkpoint = _checkpoint(options, experiment)
    model = task.build_model()
    checkpoints.restore_model(model, checkpoint)
    _announce("Using", checkpoint)
    return task, model


def _announce(verb: str, checkpoint: str):
    weights = checkpoints.describe_weights(checkpoint)
    print(f"{verb} {checkpoint}: {weights}", file=sys.stderr)


def _checkpoint(options, experiment):
    """That of `--checkpoint`: a path, or a name; by default best, if it exists."""
    name = options.checkpoint
    if name not in ("", "best", "last"):
        inside = files.join(options.model_dir, name)
        is_inside = inside in checkpoint_files.prefixes(options.model_dir)
        return inside if is_inside else name
    subdir = experiment.trainer.best_checkpoint_export_subdir
    folder = files.join(options.model_dir, subdir)
    best = checkpoint_files.prefixes(folder) if subdir and name != "last" else []
    if name == "best":
        if not best:
            raise UserError(
                f"No best checkpoint in {folder}: train with train_and_eval."
            )
        return best[0]
    found = [*best, *checkpoint_files.prefixes(options.model_dir)]
    if found:
        return checkpoint_files.first_whole(found)
    return checkpoint_files.find(options.model_dir)  # says what was expected
