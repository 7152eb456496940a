"""What the modes of all trainers have in common.

A trainer's script reads the flags into `Options`; a mode is a function of these and of
the experiment. The tasks are those of `build_task(experiment, class_names)`.
"""

import contextlib
import sys
from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

from trainers.core import (
    agreement,
    checkpoint_files,
    checkpoints,
    cluster,
    config,
    distribution,
    experiments,
    files,
)
from trainers.core.classes import (
    CLASS_FILE,
    are_trained_classes,
    describe_changes,
    read_trained_classes,
    write_trained_classes,
)
from trainers.core.errors import DataError, UserError, did_you_mean, warn
from trainers.core.lock import only_one
from trainers.core.options import Options
from trainers.core.runner import Runner, build_optimizer, check_training


def run(mode: str, options: Options, modes: Mapping[str, Callable]) -> int:
    """Runs a mode; returns the exit code.

    Args:
        mode: Its name.
        options: The flags.
        modes: Functions of the options, the name of the factory and the experiment,
            which may return an exit code.

    Raises:
        UserError: A mistake that the user can correct.
    """
    if mode not in modes:
        raise UserError(f"Unknown --mode {mode!r}.{did_you_mean(mode, modes)}")
    paths = experiments.find_config(options)
    name, experiment = config.load_experiment(
        paths, options.overrides, options.experiment
    )
    distribution.configure(experiment.runtime)
    return modes[mode](options, name, experiment) or 0


# === Modes ===


def train(options, name, experiment, build_task, evaluate=False, report=None):
    """Trains; resumes the run in the model directory, if any.

    Args:
        options: The flags.
        name: Of the experiment's factory.
        experiment: `ExperimentConfig`.
        build_task: Function of the experiment.
        evaluate: Evaluate every `validation_interval` steps, and keep the best.
        report: Function of options and experiment, which the chief calls at the end.
    """
    cluster.check_named(experiment.runtime)
    strategy = distribution.build_strategy(experiment.runtime)
    is_chief = distribution.is_chief(strategy)
    _train(options, name, experiment, build_task, evaluate, strategy)
    if report and is_chief:  # the other workers, and the trainer's memory, are free
        report(options, experiment)


def _train(options, name, experiment, build_task, evaluate, strategy):
    is_chief = distribution.is_chief(strategy)
    alone = only_one(options.model_dir) if is_chief else contextlib.nullcontext()
    with agreement.ending_together(strategy), alone:
        task = build_task(experiment)
        setup = _setup(task, name, experiment) | task.describe_data(is_training=True)
        if evaluate:  # errors of these data are raised now, not hours later
            setup |= task.describe_data(is_training=False)
        agreement.check_same(strategy, setup)
        runner = Runner(experiment, task, strategy, options.model_dir)
        if is_chief:
            _save_setup(task, name, experiment, options.model_dir)  # after all checks
        try:
            runner.train(evaluate)
        finally:
            print_report(task)
        if is_chief:
            print(f"At step {runner.step}; see {options.model_dir}", file=sys.stderr)


def evaluate(options, name, experiment, build_task):
    """Evaluates a checkpoint; prints a table, writes `eval_results.json`."""
    strategy = distribution.build_strategy(experiment.runtime)
    with agreement.ending_together(strategy):
        task = _trained_task(options, experiment, build_task)
        checkpoint = find_checkpoint(options, experiment)
        setup = _setup(task, name, experiment) | task.describe_data(is_training=False)
        agreement.check_same(strategy, {"checkpoint": [checkpoint], **setup})
        runner = Runner(experiment, task, strategy, options.model_dir, train=False)
        if distribution.is_chief(strategy):
            _announce("Evaluating", checkpoint)
        runner.evaluate(checkpoint)
        print_report(task)


def dry_run(options, name, experiment, build_task):
    """Prints the network, one batch of each data set, and the settings that were made.

    The model is initialised as in training: from `init_checkpoint`, if it is set.
    """
    changed = config.changed_settings(experiment, name)  # before tasks fill in more
    task = build_task(experiment)
    strategy = distribution.build_local_strategy(experiment.runtime)
    check_training(experiment, task, strategy.num_replicas_in_sync)
    build_optimizer(experiment)  # raises its errors
    print(task.describe_model(), end="\n\n")
    model = task.build_model()
    task.initialize(model)
    for data in (experiment.task.train_data, experiment.task.validation_data):
        _print_batch(task, model, data)
    print("", f"Settings that differ from those of {name}:", sep="\n")
    print(*(f"  {line}" for line in changed or ["none"]), sep="\n")
    if options.print_config:
        print("", config.to_yaml(experiment, name), sep="\n")
    print_report(task)


def _print_batch(task, model, data):
    kind = "train" if data.is_training else "validation"
    try:
        batch = next(iter(task.build_inputs(data)))
    except Exception:
        task.check_inputs()
        raise
    print(f"{kind}_data, one batch:")
    width = max(8, *(len(key) + 2 for key in batch))
    for key, value in batch.items():
        print(f"  {key:<{width}}{value.dtype.name:<9}{tuple(value.shape)}")
    if data.is_training or task.evaluates_loss:
        losses, _ = task.forward(batch, model, training=False)
        loss = float(losses.numpy().mean())
        print(f"  {'loss':<{width}}{loss:.4f} before training")


def print_report(task):
    """Prints what a task has to say at the end of a run."""
    for line in task.report():
        print(line, file=sys.stderr)


# === The setup of a training: its config and its classes ===


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


# === Trained models ===


def _trained_task(options, experiment, build_task):
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


def restore_trained(options, experiment, build_task):
    """The task and the model of a trained checkpoint, that of `find_checkpoint`."""
    task = _trained_task(options, experiment, build_task)
    checkpoint = find_checkpoint(options, experiment)
    model = task.build_model()
    checkpoints.restore_model(model, checkpoint)
    _announce("Using", checkpoint)
    return task, model


def _announce(verb: str, checkpoint: str):
    weights = checkpoints.describe_weights(checkpoint)
    print(f"{verb} {checkpoint}: {weights}", file=sys.stderr)


def find_checkpoint(options, experiment):
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
