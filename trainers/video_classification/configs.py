"""The config of the video classification task.

`ModelConfig` has the arguments of `keras_nonlocal.models.build`; clips and data are in
`data/configs.py`. Experiments made from these are registered in `experiments.py`.
"""

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence

from official.modeling import hyperparams

from keras_nonlocal import NonLocal3D
from keras_nonlocal.convert import SOURCES
from keras_nonlocal.models import ARCHITECTURES, CONVENTIONS, STAGES
from trainers.core.config_definitions import TaskConfig
from trainers.core.errors import UserError, check_key, did_you_mean, errors_of
from trainers.video_classification.data.configs import ClipConfig, DataConfig
from trainers.video_classification.evaluation import AGGREGATIONS, RANKINGS

CHECKPOINT_MODULES = ("all", "backbone")
CHECKPOINT_PIXELS = ("same", "any")
EXPORT_PRECISIONS = ("float32", "bfloat16")
_OPTIONS = {
    *inspect.signature(NonLocal3D.__init__).parameters,
    "dtype",
    "trainable",
} - {
    "self",
    "kwargs",
}
_EXPORT_LIMITS = (
    "max_frames",
    "max_request_frames",
    "max_frame_bytes",
    "max_frame_pixels",
    "max_request_pixels",
    "max_positions",
)


@dataclasses.dataclass
class ModelConfig(hyperparams.Config):
    """The network. All fields except `name` are arguments of its builder.

    Attributes:
        name: `c2d` or `i3d`.
        num_classes: 0: the number of class names.
        temporal_kernel: `3x1x1` or `3x3x3`, for `i3d` only; None: its default.
        non_local: Number of blocks (None, 1, 5, 10), or stage -> block indices.
        non_local_options: Arguments of `NonLocal3D`.
        width: Channels after the first convolution (64 in the paper); every
            other width is a multiple of it.
        stride_in_1x1: Residual blocks have their stride in the first convolution, as
            in the ResNets of `keras.applications`; needed for weights of these.
    """

    name: str = "i3d"
    depth: int = 50
    num_classes: int = 0
    stem: str = "8x8"
    temporal_kernel: str | None = None
    non_local: int | dict | None = None
    non_local_options: dict | None = None
    convention: str = "video_nonlocal_net"
    width: int = 64
    dropout_rate: float = 0.5
    stride_in_1x1: bool = False

    def check(self):
        """Raises `UserError` for an unknown network, convention or option."""
        check_key("task.model.name", self.name, ARCHITECTURES)
        check_key("task.model.convention", self.convention, CONVENTIONS)
        options = self.as_dict()["non_local_options"]
        if isinstance(options, Mapping):  # else the builder refuses it
            self._check_options("task.model.non_local_options", options)

    def _check_options(self, key: str, options: Mapping):
        for name, value in options.items():
            if name in STAGES and isinstance(value, Mapping):
                self._check_options(f"{key}.{name}", value)
            elif name not in _OPTIONS and name not in STAGES:
                hint = did_you_mean(name, _OPTIONS)
                raise UserError(f"{key}: NonLocal3D has no argument {name!r}.{hint}")


@dataclasses.dataclass
class LossesConfig(hyperparams.Config):
    """Cross-entropy with softmax, or with a sigmoid per class (`is_multilabel`).

    Attributes:
        label_smoothing: Weight of the uniform distribution in the labels.
        class_weights: Weights w_k of the classes in the training loss: a list in
            label order, a mapping by class name (others weigh 1), or `balanced`:
            w_k = N / (K n_k), for n_k videos of class k, N in all, and K classes. With
            one label per video, a clip's loss is multiplied by the weight of its
            class; with several, each class's term of it by its own. The loss of a
            step is the sum over its clips divided by their number, not by the sum of
            the weights. Losses of evaluations are not weighted.
    """

    label_smoothing: float = 0.0
    class_weights: str | dict | Sequence[float] | None = None

    def check(self):
        """Raises `UserError` for a smoothing outside of [0, 1), or invalid weights."""
        self._check_weights()
        if not 0 <= self.label_smoothing < 1:
            raise UserError(
                "task.losses.label_smoothing must be in [0, 1). Received: "
                f"{self.label_smoothing}."
            )

    def _check_weights(self):
        key, weights = "task.losses.class_weights", self.as_dict()["class_weights"]
        if isinstance(weights, str):
            check_key(key, weights, ("balanced",))
            return
        values = weights.values() if isinstance(weights, Mapping) else weights or ()
        for value in values:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 <= value < math.inf:
                raise UserError(
                    f"{key} must be numbers of at least 0. Received: {value!r}."
                )


@dataclasses.dataclass
class EvaluationConfig(hyperparams.Config):
    """How a video is scored from its views.

    Attributes:
        view_aggregation: `mean` of the views' probabilities (paper), or their
            `max`, which suits long videos with many labels.
        ranking: Order of the videos for mAP, if they have several labels. `all`:
            every video by its score. `labelled_first`: videos without labels come
            last, as in the official script of Charades, whose mAP is higher for it.
    """

    view_aggregation: str = "mean"
    ranking: str = "all"

    def check(self):
        """Raises `UserError` for an unknown aggregation or ranking."""
        key = "task.evaluation.view_aggregation"
        check_key(key, self.view_aggregation, AGGREGATIONS)
        check_key("task.evaluation.ranking", self.ranking, RANKINGS)


@dataclasses.dataclass
class ExportConfig(hyperparams.Config):
    """The form of exported networks, and the largest request that they answer.

    A larger request is refused with an error, and the server goes on.

    Attributes:
        precision: dtype of computation and weights: `float32` or `bfloat16`. None:
            that of training. Logits and probabilities are always float32.
        constants: Store the weights as constants of the graph, which a CPU arranges
            for its kernels once instead of at every call: faster, for more memory
            while loading and, with non-local blocks, a file of twice the size (see
            docs/results.md).
        max_frames: Frames of a clip.
        max_request_frames: Frames of all clips of a request, a clip shorter than
            `num_frames` counting as one of that length: what the memory of the
            network grows with.
        max_frame_bytes: Bytes of a JPEG frame.
        max_frame_pixels: Pixels of a frame, height times width; by default a little
            more than those of 8K video.
        max_request_pixels: Pixels of all frames of a request. A frame that has fewer
            than its square crop counts as the crop.
        max_positions: Query positions of a request to the signature `attention`,
            counted for each of its clips.
        top_k: Classes in the outputs `classes` and `scores`.
        attention_blocks: Names of the non-local blocks, such as `res3_1_nonlocal`,
            whose weights the signature `attention` gives. None: all of them; an empty
            list: there is no such signature.
        calibration_clips: Of the validation data, for an export in int8.
        max_accuracy_drop: By which the accuracy on the validation data may fall in
            int8, as a fraction of 1.
        dynamic: Networks for other runtimes take any number of frames of any size, as
            SavedModels always do; otherwise only clips as in validation, which may be
            faster.
    """

    precision: str | None = None
    constants: bool = False
    top_k: int = 5
    attention_blocks: list[str] | None = None
    calibration_clips: int = 128
    max_accuracy_drop: float = 0.01
    dynamic: bool = False
    max_frames: int = 512
    max_request_frames: int = 512
    max_frame_bytes: int = 2**25
    max_frame_pixels: int = 2**25
    max_request_pixels: int = 2**28
    max_positions: int = 64

    @property
    def limits(self) -> dict[str, int]:
        """The `max_...` fields."""
        return {name: getattr(self, name) for name in _EXPORT_LIMITS}

    @property
    def _counts(self):
        counts = {"top_k": self.top_k, "calibration_clips": self.calibration_clips}
        return self.limits | counts

    def check(self):
        """Raises `UserError` for an unknown precision, or a number below 1."""
        if self.precision is not None:
            check_key("task.export.precision", self.precision, EXPORT_PRECISIONS)
        for name, value in self._counts.items():
            if value < 1:
                raise UserError(
                    f"task.export.{name} must be positive. Received: {value}."
                )


@dataclasses.dataclass
class VideoClassificationConfig(TaskConfig):
    """The task: a network, clips, two data sets, a loss and a test protocol.

    Attributes:
        init_checkpoint: Weights to start from: a model directory, one of its
            checkpoints, or any file that `keras_nonlocal.convert.load_weights`
            reads: `.keras`, `.weights.h5`, networks of video-nonlocal-net (`.pkl`),
            PySlowFast, mmaction2 and GluonCV, ImageNet ResNets of torchvision, timm
            and Keras. Non-local blocks that are not in it are added as identities:
            the outputs of the network do not change, which is checked.
        init_checkpoint_modules: The layers to load: `all`, or `backbone`, which
            initialises the classifier anew, for other classes.
        init_checkpoint_source: The project whose variable names the file has; `auto`
            detects it. Of `.pkl` files it cannot detect those of PySlowFast's model
            zoo: set `pyslowfast_caffe2`.
        init_checkpoint_pixels: `same`: `clip.mean` and `clip.std` must be those that
            the weights were trained with, if these are known. `any`: a difference
            is only reported, for fine-tuning.
        init_checkpoint_licence: Of these weights, in words; for the model card of
            exports.
        freeze_backbone: Keep the weights of the residual network, and train only the
            non-local blocks and the classifier.
        freeze_batch_norm: Keep statistics, scale and offset of every batch
            normalisation of the residual network: the "affine" training of long
            clips and small batches. Those of non-local blocks are trained; affine
            networks have none: `task.model.non_local_options={normalization: null}`.
        model: The network.
        clip: What one clip is.
        train_data: Clips cut at random.
        validation_data: Views that cover the video.
        losses: The loss function.
        evaluation: How videos are scored.
        export: The form of exported networks.
        report_videos: Validation videos that `train_and_eval` scores for the report
            at its end, evenly spread over their list; 0: it writes none. The mode
            `report` scores all.
    """

    init_checkpoint_modules: str = "all"
    init_checkpoint_source: str = "auto"
    init_checkpoint_pixels: str = "same"
    init_checkpoint_licence: str = ""
    freeze_backbone: bool = False
    freeze_batch_norm: bool = False
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    clip: ClipConfig = dataclasses.field(default_factory=ClipConfig)
    train_data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(is_training=True)
    )
    validation_data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(is_training=False)
    )
    losses: LossesConfig = dataclasses.field(default_factory=LossesConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    export: ExportConfig = dataclasses.field(default_factory=ExportConfig)
    report_videos: int = 500

    def check(self):
        """Checks the settings that would otherwise fail late, or have no effect.

        Raises:
            UserError: Names the field and its valid values.
        """
        for name in ("clip", "train_data", "validation_data"):
            with errors_of(f"task.{name}"):
                getattr(self, name).check()
        self._check_data()
        with errors_of("task.validation_data"):
            self.validation_data.check_clip(self.clip)
        self._check_initialization()
        if self.report_videos < 0:
            raise UserError(
                "task.report_videos must be at least 0. Received: "
                f"{self.report_videos}."
            )
        for part in (self.model, self.losses, self.evaluation, self.export):
            part.check()

    def _check_data(self):
        for name, is_training in (("train_data", True), ("validation_data", False)):
            received = getattr(self, name).is_training
            if received not in (None, is_training):
                raise UserError(
                    f"task.{name}.is_training is {received}, but it is always "
                    f"{is_training} for this data set: leave it out."
                )
        if self.train_data.is_multilabel != self.validation_data.is_multilabel:
            raise UserError(
                "task.train_data.is_multilabel and task.validation_data.is_multilabel "
                "differ: set both."
            )
        test, crop = self.validation_data, self.train_data.crop_size
        if test.protocol.whole_frame and test.crop_size < crop:
            raise UserError(
                f"task.validation_data: test_protocol `{test.test_protocol}` slides a "
                "window of the training crop over whole frames: crop_size must be at "
                f"least {crop}. Received: {test.crop_size}."
            )

    def _check_initialization(self):
        modules, source = self.init_checkpoint_modules, self.init_checkpoint_source
        pixels = self.init_checkpoint_pixels
        check_key("task.init_checkpoint_modules", modules, CHECKPOINT_MODULES)
        check_key("task.init_checkpoint_source", source, ("auto", *SOURCES))
        check_key("task.init_checkpoint_pixels", pixels, CHECKPOINT_PIXELS)
        for name in ("freeze_backbone", "freeze_batch_norm"):
            if getattr(self, name) and not self.init_checkpoint:
                raise UserError(
                    f"task.{name} is true, but there are no trained weights to keep: "
                    "set task.init_checkpoint."
                )
