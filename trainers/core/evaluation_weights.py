"""The weights that a model in training is evaluated with.

They are those of training, except for

- trainable weights, with `trainer.optimizer_config.ema`: their moving averages;
- moving statistics of batch normalisation, with `trainer.precise_batch_norm`: the
  statistics of many training batches, with the weights that are evaluated.

The averages are saved in each checkpoint. The statistics are computed when an
evaluation is due, after the checkpoint has been saved, and saved beside it. So all
that use a trained network use what was evaluated; training alone has its own weights.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator

import orbit
import tensorflow as tf

from trainers.core import (
    checkpoint_files,
    checkpoints,
    optimization,
    precise_batch_norm,
)
from trainers.core.errors import warn
from trainers.core.trainer import without_fusion


class EvaluationWeights:
    """The weights for evaluation of one model, beside those of training.

    Create it within the strategy's scope.

    Args:
        config: `ExperimentConfig`.
        task: `trainers.core.task.Task`.
        model: Keras model.
        optimizer: Built optimizer.

    Attributes:
        checkpoint: Of the statistics.
        num_batches: From which the statistics are computed; 0 without them.
    """

    def __init__(self, config, task, model, optimizer):
        self._strategy = tf.distribute.get_strategy()
        self._task = task
        self._data = config.task.train_data
        self._model = model
        self._averages = optimization.averages(optimizer)
        self._statistics = {}
        self._precise = precise_batch_norm.PreciseBatchNorm(task, model)
        self.num_batches = config.trainer.precise_batch_norm.num_batches
        if self.num_batches:
            self._statistics = _zeros_like_statistics(model)
        self.num_batches *= bool(self._statistics)
        self.checkpoint = checkpoints.statistics_checkpoint(self._statistics)
        self._step = None  # of the statistics

    @property
    def description(self) -> str:
        """What is evaluated."""
        return checkpoints.describe(bool(self._averages), bool(self._statistics))

    def start_averages(self) -> None:
        """Sets the averages to the weights, before the first step."""
        values = {x.path: x.value for x in self._model.trainable_variables}
        for path, average in self._averages.items():
            average.assign(values[path])

    def restore(self, prefix: str) -> None:
        """Reads the statistics saved beside a checkpoint, if they are there."""
        if not self._statistics:
            return
        try:
            values = checkpoints.read_statistics(prefix)
        except checkpoint_files.DamagedError as error:
            warn(f"{error} The statistics are computed again.")
            return
        if values.keys() == self._statistics.keys():
            self._assign_statistics(values, checkpoint_files.step_of(prefix))

    def prepare(self, step: int, on_batch: Callable = lambda: None) -> None:
        """Computes the statistics of a step, unless they are known.

        The batches are those after the step: they depend on seed and step alone.

        Args:
            step: The present step.
            on_batch: Called after each batch.

        Raises:
            UserError: There are no training data.
        """
        if not self._statistics or step == self._step:
            return
        dataset = orbit.utils.make_distributed_dataset(
            self._strategy, self._task.build_inputs, self._data, start_batch=step
        )
        batches = itertools.islice(dataset, self.num_batches)
        with self._swapped(self._averages), without_fusion():
            values = self._precise.compute(batches, on_batch)
        self._assign_statistics(values, step)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Context in which the model has the weights for evaluation.

        After it, all weights are what they were before, bit for bit.
        """
        with self._swapped(self._averages | self._statistics):
            yield

    def _assign_statistics(self, values, step: int):
        for path, value in values.items():
            self._statistics[path].assign(tf.cast(value, tf.float32))
        self._step = step

    @contextlib.contextmanager
    def _swapped(self, values):
        variables = checkpoints.by_path(self._model.variables)
        # Each replica's copy by itself: in some models they differ.
        pairs = [
            pair
            for path, value in values.items()
            for pair in zip(
                self._local(variables[path]), self._local(value), strict=True
            )
        ]
        kept = [variable.numpy() for variable, _ in pairs]
        try:
            for variable, value in pairs:
                variable.assign(value)
            yield
        finally:
            for (variable, _), value in zip(pairs, kept, strict=True):
                variable.assign(value)

    def _local(self, variable):
        return self._strategy.experimental_local_results(variable)


def _zeros_like_statistics(model) -> dict[str, tf.Variable]:
    variables = [
        statistic
        for layer in precise_batch_norm.normalizations(model)
        for statistic in (layer.moving_mean, layer.moving_variance)
    ]
    return {
        path: tf.Variable(tf.zeros(variable.shape), trainable=False)
        for path, variable in checkpoints.by_path(variables).items()
    }
