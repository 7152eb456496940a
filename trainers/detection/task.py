"""Detection: images in; boxes, classes, and masks or keypoints out."""

import contextlib
import functools
import sys

import numpy as np
import tensorflow as tf

from keras_nonlocal.models import DETECTION_CONVENTIONS, DETECTORS
from trainers.core import agreement
from trainers.core.errors import UserError
from trainers.core.failures import FailureLog
from trainers.core.task import Task
from trainers.detection.data import (
    ImageError,
    load_index,
    make_dataset,
    read_image,
)
from trainers.detection.detections import by_image, detect
from trainers.detection.drawing import draw_detections
from trainers.detection.evaluation import (
    Evaluation,
    format_metrics,
    metric_names,
    write_report,
)
from trainers.detection.initialization import (
    freeze_layers,
    initialize_from_checkpoint,
)
from trainers.detection.objective import compute_losses

_NUM_PICTURES = 8  # for TensorBoard


class DetectionTask(Task):
    """Trains and tests `MaskRCNN` or `KeypointRCNN` on annotated images.

    Args:
        params: `DetectionConfig`.
        class_names: By label, for a trained model; 0 is the background. None: from the
            training data.
        seed: Of data sets whose config has none, and of the choice of proposals.
    """

    evaluates_loss = False
    varying_shapes = True

    def __init__(
        self, params, logging_dir=None, name=None, class_names=None, seed: int = 0
    ):
        super().__init__(params, logging_dir, name)
        params.check()
        params.train_data.is_training = True
        params.validation_data.is_training = False
        self._class_names = class_names
        self._seed = seed
        self._evaluation = None  # the last
        self._shown = {}  # image id -> detections, of the last evaluation
        self._failures = {
            data.is_training: FailureLog(data.max_broken_fraction, "image")
            for data in (params.train_data, params.validation_data)
        }
        if class_names is None and params.model.target == "keypoints":
            self._set_keypoints(params.model)

    def _set_keypoints(self, model):
        """Completes the config of the network from the training data."""
        index = self.train_index
        if model.num_keypoints not in (0, index.num_keypoints):
            raise UserError(
                f"task.model.num_keypoints is {model.num_keypoints}, but the "
                f"annotations have {index.num_keypoints}: set it to 0."
            )
        model.num_keypoints = index.num_keypoints
        model.keypoint_names = list(index.keypoints)
        model.skeleton = [number for pair in index.skeleton for number in pair]

    # === Classes, indexes, metrics ===

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Class names by label; 0 is the background."""
        if self._class_names is not None:
            return tuple(self._class_names)
        return self.train_index.class_names

    @functools.cached_property
    def train_index(self):
        """Index of the training images."""
        return load_index(self.task_config.train_data, self._class_names)

    @functools.cached_property
    def validation_index(self):
        """Index of the images for evaluation, with the labels of training."""
        return load_index(self.task_config.validation_data, self.class_names)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return metric_names(self.task_config.model.target)

    @property
    def best_metric(self) -> str:
        return f"{self.task_config.model.target.removesuffix('s')}_AP"

    def describe_data(self, is_training):
        if is_training:
            return {"training images": [self.train_index.digest]}
        return {"validation images": [self.validation_index.digest]}

    # === Model ===

    def build_model(self):
        """Builds the network, with an output for each class."""
        model = self.task_config.model
        data = self.task_config.validation_data
        arguments = model.arguments() | {
            "num_classes": self._num_classes(model.num_classes),
            "min_size": data.min_size[-1],
            "max_size": data.max_size,
        }
        try:
            network = DETECTORS[model.name](**arguments, name=model.name)
        except (TypeError, ValueError) as error:  # of arguments, with what is valid
            raise UserError(f"task.model: {error}") from error
        freeze_layers(network, self.task_config.freeze_at)
        return network

    def _num_classes(self, configured: int) -> int:
        found = len(self.class_names)
        if configured and configured != found:
            raise UserError(
                f"task.model.num_classes is {configured}, but there are {found}, the "
                "background included. Set it to 0 for those of the training data."
            )
        return found

    def initialize(self, model):
        if self.task_config.init_checkpoint:
            names = self.class_names
            log = initialize_from_checkpoint(model, self.task_config, names)
            print(log, file=sys.stderr)

    # === Data ===

    def build_inputs(self, params, input_context=None, start_batch=0):
        return make_dataset(
            self.train_index if params.is_training else self.validation_index,
            params,
            DETECTION_CONVENTIONS[self.task_config.model.convention],
            target=self.task_config.model.target,
            seed=self._seed if params.seed is None else params.seed,
            start_batch=start_batch,
            input_context=input_context,
            failures=self._failures[params.is_training],
        )

    def check_inputs(self):
        for log in self._failures.values():
            if log.error is not None:
                raise log.error

    def report(self) -> list[str]:
        return [line for log in self._failures.values() for line in log.report()]

    # === Steps ===

    def forward(self, inputs, model, training):
        sampling = self.task_config.sampling
        terms = compute_losses(model, inputs, sampling, self._seed, training)
        shares = _shares(terms, inputs["weight"])
        return tf.add_n(list(shares.values())), shares

    def validation_step(self, inputs, model, metrics=None):
        sizes, original_sizes = inputs["sizes"], inputs["original_sizes"]
        found = detect(model, inputs["images"], sizes, original_sizes)
        about = {name: inputs[name] for name in ("image_id", "weight")}
        return found | about | {"original_sizes": original_sizes}

    # === Evaluation ===

    def aggregate_logs(self, state, step_logs):
        if state is None:
            state = Evaluation(self.validation_index, self.task_config.model.target)
            self._shown = {}
        for image_id, found in by_image(step_logs):
            state.update(image_id, found)
            if len(self._shown) < _NUM_PICTURES:
                self._shown[image_id] = found
        return state

    def reduce_aggregated_logs(self, aggregated_logs, global_step=None):
        self._evaluation = aggregated_logs
        own = self._failures[False].failures
        workers = agreement.gather(tf.distribute.get_strategy(), own)
        broken = {path: why for each in workers for path, why in each.items()}
        return {
            **aggregated_logs.metrics(),
            "num_broken": len(broken),
            "broken": broken,
            "missing": list(self.validation_index.missing),
        }

    def format_metrics(self, metrics):
        return format_metrics(metrics)

    def write_report(self, folder):
        write_report(self._evaluation, folder)

    def pictures(self):
        images = {image.id: image for image in self.validation_index.images}
        skeleton = np.reshape(self.task_config.model.skeleton, (-1, 2)).astype(int)
        limits = self.task_config.validation_data.limits
        drawn = {}
        for image_id, found in self._shown.items():
            with contextlib.suppress(ImageError):  # which those of TFRecords raise
                pixels = read_image(images[image_id].path, limits)
                name = f"detections/{image_id}"
                drawn[name] = draw_detections(pixels, found, self.class_names, skeleton)
        return drawn


def _shares(terms, weights):
    """The loss of each example, whose weighted mean is that of the batch.

    The loss of the batch is sum_i s_i / sum_i n_i over the examples of all replicas,
    s_i being the sum of an example's terms and n_i what it adds to the divisor. With
    total weight W, an example's share is s_i W / sum_i n_i.

    Args:
        terms: Name -> `(sums, counts)` of `objective.compute_losses`.
        weights: `(B,)`.
    """
    counts = [tf.reduce_sum(counts * weights) for _, counts in terms.values()]
    totals = tf.stop_gradient(tf.stack([tf.reduce_sum(weights), *counts]))
    replicas = tf.distribute.get_replica_context()
    weight, *counts = tf.unstack(replicas.all_reduce("sum", totals))
    return {
        name: sums * weight / tf.maximum(count, 1)
        for (name, (sums, _)), count in zip(terms.items(), counts, strict=True)
    }
