"""Steps of training and evaluation under a tf.distribute strategy.

A small orbit trainer. The Model Garden's own needs tf_keras metrics, and
`tf.train.Checkpoint(model=...)`, which misses variables of Keras 3 models. Loops
run on the host with one graph call per step, so that the wait for input is measured,
and a signal stops training between two steps. The results of the steps are read at the
end of a loop: an accelerator does not wait for the host after each of them.
"""

import contextlib
import math

import numpy as np
import orbit
import tensorflow as tf

from trainers.core import cluster, optimization
from trainers.core.accumulation import accumulate, part_of
from trainers.core.errors import Interrupted, UserError
from trainers.core.progress import Stopwatch
from trainers.core.recomputation import recompute
from trainers.core.signals import elected

# Below this, float16 gradients overflow whatever the scale.
_LEAST_LOSS_SCALE = 2.0**-14


class NonFiniteError(UserError):
    """The loss or its gradient became NaN or infinite."""


class Trainer(orbit.AbstractTrainer, orbit.AbstractEvaluator):
    """Trains and evaluates one model of a task.

    Create it within the strategy's scope.

    Args:
        config: `ExperimentConfig`.
        task: `trainers.core.task.Task`.
        model: Keras model.
        optimizer: Built optimizer; None for evaluation alone.

    Attributes:
        global_step: Number of training steps done; saved in checkpoints.
        on_step: Called after each training step, whose results are not known yet.
        on_results: Called at the end of each loop of steps with `loss`, `lr` and
            `input_wait`.
        on_eval_step: Called after each batch of an evaluation, with the number
            of batches, or None if it is unknown.
        stop: `StopRequest`, or None.
    """

    def __init__(self, config, task, model, optimizer=None):
        self._strategy = tf.distribute.get_strategy()
        self._config = config
        self._task = task
        self.model = model
        self.optimizer = optimizer
        self.global_step = orbit.utils.create_global_step()
        self.on_step = None
        self.on_results = None
        self.on_eval_step = None
        self.stop = None
        self._trained = model
        if optimizer and config.trainer.recompute_activations:
            self._trained = recompute(model, task)
        self._has_peers = cluster.of(self._strategy) is not None
        self._train_iterator = None
        self._inference_model = None
        self._train_step = self._compiled(self._distributed_train_step)
        self._eval_step = self._compiled(self._distributed_eval_step)

    def _compiled(self, step):
        # None leaves TPUs, whose steps are always compiled, to their strategy.
        return tf.function(step, jit_compile=self._config.runtime.enable_xla or None)

    # === Training ===

    def train(self, num_steps: tf.Tensor) -> dict:
        """Trains `num_steps` more steps; returns the means over them.

        Raises:
            NonFiniteError: The loss or the gradient is NaN or infinite.
            Interrupted: A signal asked to stop; the last step is complete.
        """
        with without_fusion():
            return self._train(int(num_steps))

    def _train(self, num_steps: int) -> dict:
        iterator, first = self._train_inputs(), int(self.global_step.numpy()) + 1
        steps, watch = [], Stopwatch()
        # Not the votes of the last step: the accelerator would wait for the host.
        while len(steps) < num_steps and not self._signal(steps[:-1]):
            with watch.waiting():
                inputs = next(iterator)
            steps.append(self._train_step(inputs, self._votes()))
            if self.on_step:
                self.on_step()
        signum = self._signal(steps)
        logs = self._read(steps, first) if steps else {}
        if self.on_results and logs:
            rate = logs["learning_rate"]
            self.on_results(loss=logs["loss"], lr=rate, input_wait=watch.input_wait)
        if signum:
            raise self._interrupted(signum)
        logs["steps_per_second"] = watch.steps_per_second
        logs["input_wait"] = watch.input_wait
        return logs

    def _votes(self):
        """What this worker adds to the votes of a step; None if it is alone."""
        if self.stop is None or not self._has_peers:
            return None
        return tf.constant(self.stop.votes)

    def _signal(self, steps) -> int | None:
        """The signal that ends training or evaluation after these steps, if any.

        Several workers end at the same step: each step sums their votes.
        """
        if self.stop is None:
            return None
        if not self._has_peers:
            return self.stop.signum
        return elected(steps[-1]["votes"].numpy()) if steps else None

    def check_stop(self):
        """Raises `Interrupted` after a signal. Several workers wait for a step."""
        if signum := self._signal([]):
            raise self._interrupted(signum)

    def _interrupted(self, signum: int) -> Interrupted:
        return Interrupted(signum, elsewhere=self.stop.signum is None)

    def _read(self, steps, first: int) -> dict:
        """Means over some steps, whose values are read and checked here."""
        sums, rate = {}, 0.0
        for number, values in enumerate(steps, first):
            step = {k: np.array(v) for k, v in values.items() if k != "votes"}
            rate, scale = (float(step.pop(k)) for k in ("learning_rate", "loss_scale"))
            _check_finite(step, number, rate, scale)
            sums = {name: sums.get(name, 0) + value for name, value in step.items()}
        means = {name: _mean(value) for name, value in sums.items()}
        return {**means, "learning_rate": rate}

    def _train_inputs(self):
        """Iterator of the training data, starting at the batch of this step."""
        if self._train_iterator is None:
            dataset = orbit.utils.make_distributed_dataset(
                self._strategy,
                self._task.build_inputs,
                self._config.task.train_data,
                start_batch=int(self.global_step.numpy()),
            )
            self._trace(self._train_step, dataset)
            self._train_iterator = iter(dataset)
        return self._train_iterator

    def _trace(self, step, dataset):
        """Makes the graph of a step for all the shapes that a dataset has."""
        if self._task.varying_shapes and not tf.config.functions_run_eagerly():
            step.get_concrete_function(dataset.element_spec, self._votes())

    def _distributed_train_step(self, inputs, votes):
        rate = tf.convert_to_tensor(self.optimizer.learning_rate)
        sums = self._update(inputs)
        totals = {
            name: tf.stack(
                [self._strategy.reduce("SUM", part, axis=None) for part in parts]
            )
            for name, parts in sums.items()
        }
        self.global_step.assign_add(1)
        scale = optimization.loss_scale(self.optimizer)
        totals |= {"learning_rate": rate, "loss_scale": scale}
        return {**totals, **self._counted(votes)}

    def _counted(self, votes) -> dict:
        if votes is None:
            return {}
        of_replicas = self._strategy.run(lambda: tf.identity(votes))
        return {"votes": self._strategy.reduce("SUM", of_replicas, axis=None)}

    def _update(self, inputs):
        """Updates the model once; returns each replica's `(sum, weight)` pairs."""
        task, run, optimizer = self._task, self._strategy.run, self.optimizer
        num_parts = self._config.trainer.gradient_accumulation_steps

        def compute(index, inputs, total):
            part = part_of(inputs, index, num_parts)
            return task.gradients(part, self._trained, optimizer, total, num_parts)

        def update(gradients):
            config = self._config.trainer.optimizer_config.optimizer.get()
            return task.update(gradients, self.model, optimizer, config=config)

        total = run(task.total_weight, args=(inputs,))
        args = (inputs, total)
        gradients, sums = accumulate(self._strategy, compute, num_parts, args)
        return {**sums, "gradient_norm": run(update, args=(gradients,))}

    # === Evaluation ===

    def evaluate(self, num_steps: tf.Tensor) -> dict:
        """Evaluates on `num_steps` batches, -1 for all; returns the metrics."""
        data = self._task.evaluation_data(in_training=self.optimizer is not None)
        dataset = orbit.utils.make_distributed_dataset(
            self._strategy, self._task.build_inputs, data
        )
        self._inference_model = self._task.inference_model(
            self.model, self._inference_model
        )
        self._trace(self._eval_step, dataset)
        state, total = None, self._num_batches(dataset, int(num_steps))
        for done, inputs in enumerate(dataset):
            if done == int(num_steps):
                break
            outputs, counted = self._eval_step(inputs, self._votes())
            outputs = {name: value.numpy() for name, value in outputs.items()}
            state = self._task.aggregate_logs(state, outputs)
            if self.on_eval_step:
                self.on_eval_step(total)
            if signum := self._signal([counted]):
                raise self._interrupted(signum)
        if state is None:
            raise UserError("There is nothing to evaluate: validation_data is empty.")
        return dict(self._task.reduce_aggregated_logs(state, self.global_step))

    def _num_batches(self, dataset, num_steps):
        cardinality = int(dataset.cardinality)
        if cardinality < 0:  # infinite or unknown
            return num_steps if num_steps > 0 else None
        per_step = len(self._strategy.extended.worker_devices)  # of this worker
        batches = cardinality // per_step
        return min(batches, num_steps) if num_steps > 0 else batches

    def _distributed_eval_step(self, inputs, votes):
        outputs = self._strategy.run(
            self._task.validation_step, args=(inputs, self._inference_model)
        )
        gathered = {k: self._strategy.gather(v, axis=0) for k, v in outputs.items()}
        return gathered, self._counted(votes)


def _check_finite(step, number, rate, scale):
    loss, norm = _mean(step["loss"]), _mean(step["gradient_norm"])
    # A float16 gradient may overflow: that step is skipped and not counted in
    # the norm, and the scale falls, down to a limit. `loss` is not scaled.
    if math.isfinite(loss) and math.isfinite(norm) and scale >= _LEAST_LOSS_SCALE:
        return
    raise NonFiniteError(
        f"The loss is {loss:g} and the gradient norm {norm:g} at step "
        f"{number}, learning rate {rate:g}"
        f"{f', loss scale {scale:g}' if scale != 1 else ''}. Training stops. "
        "Try a lower learning rate, a longer warm-up "
        "(trainer.optimizer_config.warmup), gradient clipping "
        "(trainer.optimizer_config.optimizer.sgd.global_clipnorm), or "
        "runtime.mixed_precision_dtype=float32."
    )


@contextlib.contextmanager
def without_fusion():
    """Switches off TensorFlow's remapper, which fuses convolutions for inference.

    On the graph of a training step with padded 3-D convolutions it fails, and prints
    an error at each start.
    """
    tf.config.optimizer.set_experimental_options({"remapping": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": True})


def _mean(pair) -> float:
    total, weight = (float(value) for value in pair)
    return total / weight if weight else 0.0
