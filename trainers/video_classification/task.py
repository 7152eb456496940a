"""Video classification: clips in, class scores out, averaged over views."""

import functools
import re
import sys

import keras
import tensorflow as tf

from keras_nonlocal import describe
from keras_nonlocal.models import CONVENTIONS, build
from trainers.core import agreement
from trainers.core.errors import UserError, errors_of
from trainers.core.task import Task
from trainers.video_classification import losses
from trainers.video_classification.data import (
    FailureLog,
    load_index,
    make_dataset,
    normalize,
)
from trainers.video_classification.evaluation import (
    Evaluation,
    format_metrics,
    metric_names,
)
from trainers.video_classification.initialization import (
    freeze_layers,
    initialize_from_checkpoint,
)
from trainers.video_classification.scoring import build_scorer, inference_form

_BLOCK_END = re.compile(r"pool1|res\d_\d+_(out|nonlocal)")


class VideoClassificationTask(Task):
    """Trains and tests `C2D` or `I3D` on the videos of two indexes.

    Args:
        params: `VideoClassificationConfig`.
        class_names: In label order, for a trained model. None: from the training
            index.
        seed: Of data sets whose config has none.
    """

    def __init__(
        self, params, logging_dir=None, name=None, class_names=None, seed: int = 0
    ):
        super().__init__(params, logging_dir, name)
        params.check()
        params.train_data.is_training = True
        params.validation_data.is_training = False
        _set_normalization(params)
        self._class_names = class_names
        self._seed = seed
        self._evaluated = params.validation_data
        self._failures = {
            data.is_training: FailureLog(data.max_broken_fraction)
            for data in (params.train_data, params.validation_data)
        }

    # === Classes, indexes, metrics ===

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Class names in label order."""
        if self._class_names is not None:
            return tuple(self._class_names)
        return self.train_index.class_names

    @functools.cached_property
    def train_index(self):
        """Index of the training videos."""
        with errors_of("task.train_data"):
            return load_index(self.task_config.train_data, self._class_names)

    @functools.cached_property
    def validation_index(self):
        """Index of the test videos, with the label numbers of training."""
        class_names = self.class_names
        with errors_of("task.validation_data"):
            return load_index(self.task_config.validation_data, class_names)

    @property
    def is_multilabel(self) -> bool:
        """Whether videos may have several labels, or none."""
        return self.task_config.train_data.is_multilabel

    @property
    def metric_names(self) -> tuple[str, ...]:
        data = self.task_config.validation_data.in_training()
        num_classes = len(self.class_names)
        return metric_names(num_classes, self.is_multilabel, data.num_test_crops)

    @property
    def best_metric(self) -> str:
        return "mAP" if self.is_multilabel else "top1"

    def describe_data(self, is_training):
        if is_training:
            return {"training videos": self.train_index.lines()}
        return {"validation videos": self.validation_index.lines()}

    # === Model ===

    def initialize(self, model):
        if self.task_config.init_checkpoint:
            names = self.class_names
            log = initialize_from_checkpoint(model, self.task_config, names)
            print(log, file=sys.stderr)

    def build_model(self, input_shape=(None, None, None, 3)):
        """Builds the network, with an output for each class.

        Args:
            input_shape: By default, clips of any length and size.
        """
        options = self.task_config.model.as_dict()
        name = options.pop("name")
        options["num_classes"] = self._num_classes(options["num_classes"])
        try:
            model = build(name, input_shape=input_shape, name=name, **options)
        except (TypeError, ValueError) as error:  # of arguments, with what is valid
            raise UserError(f"task.model: {error}") from error
        if None in model.input_shape[1:]:  # else it takes only one size
            self._check_clips(model)
        freeze_layers(model, self.task_config)
        return model

    def describe_model(self):
        side = self.task_config.train_data.crop_size
        shape = (self.task_config.clip.num_frames, side, side, 3)
        return str(describe(self.build_model(shape)))

    def _check_clips(self, model):
        """Raises for clips that are too small now, not in the first step."""
        config = self.task_config
        for name in ("train_data", "validation_data"):
            side = getattr(config, name).crop_size
            shape = (config.clip.num_frames, side, side, 3)
            try:
                model.compute_output_spec(keras.KerasTensor((1, *shape)))
            except ValueError as error:
                raise UserError(
                    f"The network cannot take clips of {shape}, from task.clip."
                    f"num_frames and task.{name}.crop_size. {error}"
                ) from error

    def _num_classes(self, configured: int) -> int:
        found = len(self.class_names)
        if configured and configured != found:
            raise UserError(
                f"task.model.num_classes is {configured}, but there are {found} "
                "classes. Set it to 0 to use the number of classes, or name a list of "
                "all classes in task.train_data.class_file."
            )
        return found

    # === Data ===

    def build_inputs(self, params, input_context=None, start_batch=0):
        index = self.train_index if params.is_training else self.validation_index
        if params.is_training:
            self._class_weights  # noqa: B018 (raises its errors before the first step)
        return make_dataset(
            index,
            params,
            self.task_config.clip,
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

    def block_ends(self, model):
        names = [x.name for x in model.layers if _BLOCK_END.fullmatch(x.name)]
        return names[:-1]  # the activations of the last block are still in memory

    def forward(self, inputs, model, training):
        logits = model(self._normalized(inputs, model), training=training)
        logits = tf.cast(logits, tf.float32)
        values = {}
        if not self.is_multilabel:
            values["accuracy"] = _hits(inputs["label"], logits)
        weights = self._class_weights if training else None
        return self._losses(inputs["label"], logits, weights), values

    def inference_model(self, model, previous=None):
        return inference_form(model, into=previous)

    def validation_step(self, inputs, model, metrics=None):
        clips = self._normalized(inputs, model)
        logits, probabilities = build_scorer(model, self.task_config)(clips)
        return {
            "score": probabilities,
            "label": inputs["label"],
            "video": inputs["video"],
            "view": inputs["view"],
            "weight": inputs["weight"],
            "loss": self._losses(inputs["label"], logits),
        }

    def _normalized(self, inputs, model):
        return normalize(inputs["clip"], self.task_config.clip, model.compute_dtype)

    def _losses(self, labels, logits, weights=None):
        compute = losses.sigmoid_losses if self.is_multilabel else losses.softmax_losses
        return compute(labels, logits, self.task_config.losses.label_smoothing, weights)

    @functools.cached_property
    def _class_weights(self):
        """Of the training loss, in label order; None if all weigh the same."""
        setting = self.task_config.losses.as_dict()["class_weights"]
        if setting is None:
            return None
        counts = self.train_index.num_videos_by_class
        return losses.class_weights(setting, self.class_names, counts)

    # === Evaluation ===

    def evaluation_data(self, in_training):
        data = self.task_config.validation_data
        self._evaluated = data.in_training() if in_training else data
        return self._evaluated

    def aggregate_logs(self, state, step_logs):
        if state is None:
            state = Evaluation(
                len(self.validation_index),
                len(self.class_names),
                self.is_multilabel,
                self.task_config.evaluation.view_aggregation,
                self.task_config.evaluation.ranking,
                self._evaluated.num_test_crops,
            )
        state.update(**step_logs)
        return state

    def reduce_aggregated_logs(self, aggregated_logs, global_step=None):
        own = self._failures[False].failures
        workers = agreement.gather(tf.distribute.get_strategy(), own)
        broken = {path: why for each in workers for path, why in each.items()}
        return {
            **aggregated_logs.result(),
            "views": self._evaluated.describe_views(),
            "num_broken": len(broken),
            "broken": broken,
            "missing": list(self.validation_index.missing),
        }

    def format_metrics(self, metrics):
        return format_metrics(metrics)


def _hits(labels, logits):
    """1 where the best class is the label; of mixed clips, the one of most weight."""
    if not labels.dtype.is_integer:
        labels = tf.argmax(labels, -1, tf.int32)
    return tf.cast(tf.argmax(logits, -1, tf.int32) == labels, tf.float32)


def _set_normalization(params):
    """Sets a mean or std of None to the one that the convention's networks expect."""
    clip, convention = params.clip, CONVENTIONS[params.model.convention]
    clip.mean = convention.mean if clip.mean is None else clip.mean
    clip.std = convention.std if clip.std is None else clip.std
