"""Trains or evaluates the model of a config, in a model directory."""

import os
import sys

import tensorflow as tf

from trainers.core import (
    agreement,
    checkpoint_files,
    checkpoints,
    distribution,
    files,
    optimization,
)
from trainers.core.curves import Curves
from trainers.core.errors import Interrupted, UserError, warn
from trainers.core.evaluation_weights import EvaluationWeights
from trainers.core.files import FileError
from trainers.core.progress import ProgressBar
from trainers.core.saver import BestSaver, Saver
from trainers.core.signals import StopRequest
from trainers.core.trainer import NonFiniteError, Trainer

RESULTS_FILE = "eval_results.json"


def check_training(config, task, num_replicas: int):
    """Raises a `UserError` for settings that cannot train on this many replicas."""
    config.runtime.check_xla(num_replicas)
    config.trainer.check_training(task)
    config.check_batch(num_replicas)


def build_optimizer(config):
    """The optimizer of an `ExperimentConfig`, unbuilt."""
    trainer = config.trainer
    batch_size = config.task.train_data.global_batch_size
    return optimization.build_optimizer(
        trainer.optimizer_config, config.runtime, batch_size, trainer.train_steps
    )


class Runner:
    """Trains with checkpoints, curves and evaluations; resumes interrupted runs.

    The loop is not orbit's Controller, which prints to stdout, counts the steps
    between evaluations from where a run was resumed, and cannot stop between steps.

    Args:
        config: `ExperimentConfig`.
        task: `trainers.core.task.Task`.
        strategy: From `distribution.build_strategy`.
        model_dir: Checkpoints, curves and results go here.
        train: False builds no optimizer.

    Raises:
        UserError: Invalid settings of training or evaluation.
    """

    def __init__(self, config, task, strategy, model_dir, train: bool = True):
        self._config = config
        self._task = task
        self._strategy = strategy
        self._model_dir = os.fspath(model_dir)
        if train:
            check_training(config, task, strategy.num_replicas_in_sync)
        else:
            config.runtime.check_xla(strategy.num_replicas_in_sync)
            config.trainer.check_evaluation()
        self._chief = distribution.is_chief(strategy)
        with strategy.scope():
            self.trainer = self._build_trainer(train)
            self._weights = self._build_weights() if train else None
        self._curves = Curves(self._model_dir, self.trainer.global_step)

    def _build_trainer(self, train: bool) -> Trainer:
        runtime = self._config.runtime
        optimizer = self._build_optimizer() if train else None
        model = self._task.build_model()
        distribution.share_dropout_masks(model)
        if runtime.synchronize_batch_norm:
            distribution.synchronize_batch_norm(model)
        if optimizer:
            optimization.build_for(optimizer, model)
        return Trainer(self._config, self._task, model, optimizer)

    def _build_optimizer(self):
        chosen = self._config.trainer.optimizer_config
        batch_size = self._config.task.train_data.global_batch_size
        optimizer = build_optimizer(self._config)
        if self._chief and chosen.rate_scale(batch_size) != 1:
            print(
                f"Learning rates are multiplied by {chosen.rate_scale(batch_size):g}: "
                f"they are for batches of {chosen.reference_batch_size}, and "
                f"task.train_data.global_batch_size is {batch_size}.",
                file=sys.stderr,
            )
        return optimizer

    def _build_weights(self) -> EvaluationWeights:
        model, optimizer = self.trainer.model, self.trainer.optimizer
        return EvaluationWeights(self._config, self._task, model, optimizer)

    # === Modes ===

    def train(self, evaluate: bool = False) -> dict:
        """Trains up to `train_steps`; returns the last evaluation's metrics."""
        with self._strategy.scope():
            if self._chief:
                for folder in self._folders():
                    checkpoint_files.remove_unfinished(folder)
            best = self._build_best() if evaluate else None
            saver = self._restore_or_initialize()
            with StopRequest() as stop:
                self.trainer.stop = stop
                return self._train(saver, best, evaluate)

    def evaluate(self, checkpoint: str) -> dict:
        """Evaluates a checkpoint, prints the metrics, writes `eval_results.json`."""
        with self._strategy.scope():
            step = checkpoints.restore_model(self.trainer.model, checkpoint)
            self.trainer.global_step.assign(step)
            return self._evaluate(checkpoints.describe_weights(checkpoint))

    # === Parts ===

    def _train(self, saver, best, evaluate: bool) -> dict:
        trainer = self._config.trainer
        bar = ProgressBar("train", trainer.train_steps, self.step, self._chief)
        self.trainer.on_step, self.trainer.on_results = bar.advance, bar.show
        metrics, previous = {}, self._results_of(self.step)
        try:
            while True:
                is_evaluated = evaluate and self._is_due(trainer.validation_interval)
                # Saved first: an evaluation can be long, and fail or be killed.
                if is_evaluated or self._is_due(trainer.checkpoint_interval):
                    saver.save(self.step)
                if is_evaluated or self.step == trainer.train_steps:
                    self._compute_statistics(saver)
                if is_evaluated:
                    metrics = previous or self._evaluate_in_training()
                    if best:
                        best.save_if_best(self.step, metrics)
                previous = None
                if self.step >= trainer.train_steps:
                    return metrics
                self._train_loop(self._next_stop(evaluate))
        except Interrupted:
            saver.save(self.step)
            if self._chief:
                print(f"\nSaved step {self.step}.", file=sys.stderr)
            raise
        except NonFiniteError as error:
            found = checkpoint_files.prefixes(self._model_dir)
            last = f"The last checkpoint is {found[0]}." if found else "None was saved."
            raise NonFiniteError(f"{error}\n{last}") from error
        finally:
            bar.close()

    def _train_loop(self, until: int):
        try:
            logs = self.trainer.train(tf.constant(until - self.step))
        except (tf.errors.OpError, StopIteration) as error:
            self._task.check_inputs()
            if isinstance(error, StopIteration | tf.errors.OutOfRangeError):
                raise UserError("The training data ended.") from error
            raise
        self._task.check_inputs()
        if self._chief:
            self._curves.write("train", logs)

    def _compute_statistics(self, saver):
        """Computes the statistics for evaluation, and saves them with the step."""
        if not self._weights.num_batches:
            return
        name = "precise batch normalisation"
        bar = ProgressBar(name, self._weights.num_batches, 0, self._chief, leave=False)

        def on_batch():
            bar.advance()
            self.trainer.check_stop()

        try:
            self._weights.prepare(self.step, on_batch)
        except tf.errors.OpError:
            self._task.check_inputs()
            raise
        finally:
            bar.close()
        saver.save_statistics(self.step)

    def _evaluate_in_training(self) -> dict:
        with self._weights.in_use():
            return self._evaluate(self._weights.description, in_training=True)

    def _evaluate(self, weights: str, in_training: bool = False) -> dict:
        bar = ProgressBar("eval", enabled=self._chief, leave=False)
        metrics = self._compute_metrics(bar)
        if self._chief:  # printed first: the disk may be full
            metrics_text = self._task.format_metrics(metrics)
            bar.write(f"Step {self.step}, {weights}\n{metrics_text}")
            folder = self._config.trainer.validation_summary_subdir
            self._curves.write(folder, metrics, self._task.pictures())
            about = {"step": self.step, "in_training": in_training, "weights": weights}
            results = {**about, **metrics}
            files.write_json(files.join(self._model_dir, RESULTS_FILE), results)
            if not in_training:
                self._task.write_report(self._model_dir)
        return metrics

    def _compute_metrics(self, bar) -> dict:
        self.trainer.on_eval_step = bar.update_of
        try:
            return self.trainer.evaluate(self._config.trainer.validation_steps)
        except tf.errors.OpError:
            self._task.check_inputs()
            raise
        finally:
            bar.close()

    @property
    def step(self) -> int:
        """Training steps done."""
        return int(self.trainer.global_step.numpy())

    def _next_stop(self, evaluate: bool) -> int:
        """The next step at which something other than training is due."""
        trainer = self._config.trainer
        intervals = [trainer.steps_per_loop, trainer.checkpoint_interval]
        if evaluate:
            intervals.append(trainer.validation_interval)
        multiples = [(self.step // every + 1) * every for every in intervals]
        return min(*multiples, trainer.train_steps)

    def _is_due(self, interval: int) -> bool:
        if self.step == 0:
            return False
        return (
            self.step % interval == 0 or self.step == self._config.trainer.train_steps
        )

    def _from_chief(self, compute):
        return agreement.from_chief(self._strategy, compute)

    def _results_of(self, step: int) -> dict | None:
        """Metrics of a step, if it was the last that a training here evaluated."""
        return self._from_chief(lambda: self._read_results(step))

    def _read_results(self, step: int) -> dict | None:
        path = files.join(self._model_dir, RESULTS_FILE)
        if not files.is_file(path):
            return None
        try:
            results = files.read_json(path)
            if not isinstance(results, dict):
                raise FileError(path, "holds no results: the file is damaged.")
        except FileError as error:
            warn(f"{error} It is written again by the next evaluation.")
            return None
        # `--mode eval` may have evaluated this step too, but with other views.
        in_training = results.pop("in_training", False)
        is_same_step = results.pop("step", None) == step
        is_same_weights = results.pop("weights", None) == self._weights.description
        return results if is_same_step and is_same_weights and in_training else None

    def _folders(self) -> list[str]:
        """Folders of checkpoints: of the newest, and of the best, if it is kept."""
        subdir = self._config.trainer.best_checkpoint_export_subdir
        best = [files.join(self._model_dir, subdir)] if subdir else []
        return [self._model_dir, *best]

    def _restore_or_initialize(self) -> Saver:
        saved_step = None
        if prefix := self._from_chief(self._find_newest):
            if not files.exists(f"{prefix}.index"):
                raise UserError(
                    f"{prefix} is not on the disk of this worker: --model_dir must be "
                    "a folder that all workers share."
                )
            checkpoints.restore_training(*self._state(), prefix)
            self._weights.restore(prefix)
            if self._chief:
                print(f"Resuming from {prefix}", file=sys.stderr)
            is_best = prefix not in checkpoint_files.prefixes(self._model_dir)
            saved_step = None if is_best else self.step
        else:
            self._task.initialize(self.trainer.model)
            self._weights.start_averages()
        return Saver(
            checkpoints.training_checkpoint(*self._state()),
            self._model_dir,
            self._config.trainer.max_to_keep,
            is_chief=self._chief,
            saved_step=saved_step,
            statistics=self._weights.checkpoint,
        )

    def _find_newest(self) -> str | None:
        found = [x for y in self._folders() for x in checkpoint_files.prefixes(y)]
        return checkpoint_files.first_whole(found) if found else None

    def _build_best(self) -> BestSaver | None:
        config = self._config.trainer
        metric = config.best_checkpoint_eval_metric or self._task.best_metric
        higher = metric not in self._task.lower_is_better
        if config.best_checkpoint_metric_comp:
            higher = config.best_checkpoint_metric_comp == "higher"
        for folder in self._folders()[1:]:
            checkpoint = checkpoints.training_checkpoint(*self._state())
            best = BestSaver(
                checkpoint,
                folder,
                metric,
                higher,
                self._chief,
                self._from_chief,
                self._weights.checkpoint if self._weights.num_batches else None,
            )
            if best.unrated:
                best.rate(self._metrics_of(best.unrated))
            return best

    def _metrics_of(self, prefix: str) -> dict:
        """Metrics of a checkpoint: those on disk, or computed again."""
        metrics = self._results_of(checkpoint_files.step_of(prefix))
        if metrics is None:
            checkpoints.restore_model(self.trainer.model, prefix)
            bar = ProgressBar("eval", enabled=self._chief, leave=False)
            metrics = self._compute_metrics(bar)
        return metrics

    def _state(self):
        return self.trainer.global_step, self.trainer.model, self.trainer.optimizer
