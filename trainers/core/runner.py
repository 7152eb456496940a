"""Trains or evaluates the model of a config, in a model directory."""

import json
import os
import pathlib
import sys

import orbit
import tensorflow as tf

from trainers.core import checkpoints, distribution, files, optimization
from trainers.core.errors import Interrupted, UserError
from trainers.core.progress import ProgressBar
from trainers.core.signals import StopRequest
from trainers.core.trainer import Trainer

RESULTS_FILE = "eval_results.json"


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
        self._model_dir = pathlib.Path(model_dir)
        if train:
            config.trainer.check_training(task)
        else:
            config.trainer.check_evaluation()
        self._chief = distribution.is_chief(strategy)
        with strategy.scope():
            self.trainer = self._build_trainer(train)
        self._writers = {}

    def _build_trainer(self, train: bool) -> Trainer:
        runtime = self._config.runtime
        model = self._task.build_model()
        distribution.separate_seeds(model)
        if runtime.synchronize_batch_norm:
            distribution.synchronize_batch_norm(model)
        if not train:
            return Trainer(self._config, self._task, model)
        chosen = self._config.trainer.optimizer_config
        batch_size = self._config.task.train_data.global_batch_size
        optimizer = optimization.build_optimizer(chosen, runtime, batch_size)
        if self._chief and chosen.rate_scale(batch_size) != 1:
            print(
                f"Learning rates are multiplied by {chosen.rate_scale(batch_size):g}: "
                f"they are for batches of {chosen.reference_batch_size}, and "
                f"task.train_data.global_batch_size is {batch_size}.",
                file=sys.stderr,
            )
        optimization.build_for(optimizer, model)
        return Trainer(self._config, self._task, model, optimizer)

    # === Modes ===

    def train(self, evaluate: bool = False) -> dict:
        """Trains up to `train_steps`; returns the last evaluation's metrics."""
        with self._strategy.scope():
            self._restore_or_initialize()
            saver = self._build_saver(evaluate)
            with StopRequest() as stop:
                self.trainer.stop = stop
                return self._train(saver, evaluate)

    def evaluate(self, checkpoint: str) -> dict:
        """Evaluates a checkpoint and writes `eval_results.json`."""
        with self._strategy.scope():
            checkpoints.restore_model(self.trainer.model, checkpoint)
            self.trainer.global_step.assign(_step_of(checkpoint))
            return self._evaluate(in_training=False)

    # === Parts ===

    def _train(self, saver, evaluate: bool) -> dict:
        trainer = self._config.trainer
        bar = ProgressBar("train", trainer.train_steps, self.step, self._chief)
        self.trainer.on_step = bar.update
        metrics, previous = {}, self._previous_results()
        try:
            while True:
                is_evaluated = evaluate and self._is_due(trainer.validation_interval)
                # Saved first: an evaluation can be long, and fail or be killed.
                if is_evaluated or self._is_due(trainer.checkpoint_interval):
                    saver.save(self.step)
                if is_evaluated:
                    metrics = previous or self._evaluate()
                    saver.save_if_best(self.step, metrics)
                previous = None
                if self.step >= trainer.train_steps:
                    return metrics
                self._train_loop(self._next_stop(evaluate))
        except Interrupted:
            saver.save(self.step)
            raise
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
        self._write_summary("train", logs)

    def _evaluate(self, in_training: bool = True) -> dict:
        bar = ProgressBar("eval", enabled=self._chief, leave=False)
        self.trainer.on_eval_step = bar.update_of
        try:
            metrics = self.trainer.evaluate(self._config.trainer.validation_steps)
        except tf.errors.OpError:
            self._task.check_inputs()
            raise
        finally:
            bar.close()
        self._write_summary(self._config.trainer.validation_summary_subdir, metrics)
        if self._chief:
            results = {"step": self.step, "in_training": in_training, **metrics}
            files.write_json(self._model_dir / RESULTS_FILE, results)
            bar.write(f"Step {self.step}\n{self._task.format_metrics(metrics)}")
        return metrics

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

    def _previous_results(self) -> dict | None:
        """Metrics of the present step, if the interrupted run had evaluated it."""
        path = self._model_dir / RESULTS_FILE
        if not path.is_file():
            return None
        results = json.loads(path.read_text(encoding="utf-8"))
        # `--mode eval` may have evaluated this step too, but with other views.
        in_training = results.pop("in_training", False)
        is_same_step = results.pop("step", None) == self.step
        return results if is_same_step and in_training else None

    def _restore_or_initialize(self):
        trainer = self.trainer
        prefix = checkpoints.latest(self._model_dir)
        if prefix:
            checkpoints.restore_training(
                trainer.global_step, trainer.model, trainer.optimizer, prefix
            )
            print(f"Resuming from {prefix}", file=sys.stderr)
        else:
            self._task.initialize(trainer.model)

    def _build_saver(self, evaluate: bool) -> checkpoints.Saver:
        config, trainer = self._config.trainer, self.trainer
        subdir = config.best_checkpoint_export_subdir
        higher = config.best_checkpoint_metric_comp == "higher"
        metric = config.best_checkpoint_eval_metric
        if not metric:
            metric, higher = self._task.best_metric, self._task.higher_is_better
        # Every worker takes part in reading the variables; only the chief's files
        # are kept.
        directory = self._model_dir if self._chief else self._scratch_dir()
        return checkpoints.Saver(
            checkpoints.training_checkpoint(
                trainer.global_step, trainer.model, trainer.optimizer
            ),
            directory,
            config.max_to_keep,
            directory / subdir if evaluate and subdir else None,
            metric,
            higher,
        )

    def _scratch_dir(self) -> pathlib.Path:
        worker = self._strategy.cluster_resolver.task_id
        return self._model_dir / f".worker_{worker}_{os.getpid()}"

    def _write_summary(self, name: str, values: dict):
        if not self._chief:
            return
        if name not in self._writers:
            self._writers[name] = orbit.utils.SummaryManager(
                str(self._model_dir / name), tf.summary.scalar, self.trainer.global_step
            )
        numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
        self._writers[name].write_summaries(numbers)
        self._writers[name].flush()


def _step_of(checkpoint: str) -> int:
    """Training step of a checkpoint; 0 for Keras files, which do not record it."""
    if checkpoint.endswith((".keras", ".weights.h5")):
        return 0
    return checkpoints.step_of(checkpoints.find(checkpoint))
