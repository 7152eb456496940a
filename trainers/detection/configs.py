"""The config of the detection task. Experiments are in `experiments.py`."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence

from official.modeling import hyperparams

from keras_nonlocal import NonLocal2D
from keras_nonlocal.convert import SOURCES
from keras_nonlocal.models import (
    BACKBONE_NORMALIZATIONS,
    DETECTION_CONVENTIONS,
    DETECTORS,
    STAGES,
)
from trainers.core.config_definitions import TaskConfig
from trainers.core.errors import UserError, check_key, did_you_mean, errors_of
from trainers.detection.data.configs import DataConfig

CHECKPOINT_MODULES = ("all", "backbone")
_KEYPOINT_FIELDS = ("num_keypoints", "head_non_local")
_OF_DRAWINGS = ("keypoint_names", "skeleton")
_OPTIONS = {*inspect.signature(NonLocal2D.__init__).parameters, "dtype", "trainable"}
_OPTIONS -= {"self", "kwargs"}
_EXPORT_LIMITS = ("max_image_bytes", "max_image_pixels", "max_request_pixels")


@dataclasses.dataclass
class ModelConfig(hyperparams.Config):
    """The network. Fields are arguments of `MaskRCNN` and `KeypointRCNN`.

    Images get the size that `validation_data.min_size` and `max_size` say.

    Attributes:
        name: `mask_rcnn` or `keypoint_rcnn`.
        num_classes: The background included. 0: as many as the training data have.
        num_keypoints: Of `keypoint_rcnn`. 0: as many as the training data have.
        keypoint_names: Set by training; names of the keypoints, for drawings.
        skeleton: Set by training; numbers of keypoints, from 0, pair after pair, that
            are joined in drawings.
        non_local: Number of blocks (None, 1, ...), or stage -> block indices. 1: right
            before the last residual block of res4.
        head_non_local: Blocks in the head of `keypoint_rcnn`, after every second
            convolution.
        non_local_options: Arguments of `NonLocal2D`.
        balanced_pyramid: The mean of all levels of the pyramid, refined by a non-local
            block, is added to each (Libra R-CNN).
        width: Channels after the first convolution; every other width follows it.
        normalization: Of the backbone: `frozen`, or `batch`, which is trained. None:
            that of the convention.
    """

    name: str = "mask_rcnn"
    depth: int = 50
    num_classes: int = 0
    num_keypoints: int = 0
    keypoint_names: Sequence[str] = ()
    skeleton: Sequence[int] = ()
    non_local: int | dict | None = None
    head_non_local: bool = False
    non_local_options: dict | None = None
    convention: str = "torchvision"
    balanced_pyramid: bool = False
    width: int = 64
    groups: int = 1
    group_width: int = 64
    normalization: str | None = None
    anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512)
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100

    @property
    def target(self) -> str:
        """What an object has besides its box: `masks` or `keypoints`."""
        return "keypoints" if self.name == "keypoint_rcnn" else "masks"

    def arguments(self) -> dict:
        """The arguments of the network's class."""
        left_out = {"name", *_OF_DRAWINGS}
        if self.target != "keypoints":
            left_out |= set(_KEYPOINT_FIELDS)
        values = self.as_dict().items()
        return {key: value for key, value in values if key not in left_out}

    def check(self):
        """Raises `UserError` for an unknown network, convention or option."""
        check_key("task.model.name", self.name, DETECTORS)
        check_key("task.model.convention", self.convention, DETECTION_CONVENTIONS)
        if self.normalization is not None:
            choices = BACKBONE_NORMALIZATIONS
            check_key("task.model.normalization", self.normalization, choices)
        if self.target != "keypoints" and (self.num_keypoints or self.head_non_local):
            raise UserError(
                "task.model.num_keypoints and head_non_local are of keypoint_rcnn, but "
                f"task.model.name is {self.name!r}: leave them out."
            )
        options = self.as_dict()["non_local_options"]
        if isinstance(options, Mapping):  # else the network refuses it
            self._check_options("task.model.non_local_options", options)

    def _check_options(self, key: str, options: Mapping):
        for name, value in options.items():
            if name in STAGES and isinstance(value, Mapping):
                self._check_options(f"{key}.{name}", value)
            elif name not in _OPTIONS and name not in STAGES:
                hint = did_you_mean(name, _OPTIONS)
                raise UserError(f"{key}: NonLocal2D has no argument {name!r}.{hint}")


@dataclasses.dataclass
class SamplingConfig(hyperparams.Config):
    """Which anchors and proposals of an image are trained on.

    Attributes:
        rpn_batch_size: Anchors of an image.
        rpn_positive_fraction: Of these, at most so many are on objects.
        rpn_positive_iou: Anchors that overlap an object by at least this are on it, and
            the best anchors of each object.
        rpn_negative_iou: Anchors that overlap every object by less are background.
        box_batch_size: Proposals of an image.
        box_positive_fraction: Of these, at most so many are on objects.
        box_iou: Proposals that overlap an object by at least this are on it, others
            are background.
    """

    rpn_batch_size: int = 256
    rpn_positive_fraction: float = 0.5
    rpn_positive_iou: float = 0.7
    rpn_negative_iou: float = 0.3
    box_batch_size: int = 512
    box_positive_fraction: float = 0.25
    box_iou: float = 0.5

    def check(self):
        """Raises `UserError` for sizes below 1, or fractions outside of [0, 1]."""
        for name, value in self.as_dict().items():
            if name.endswith("batch_size"):
                is_valid, expected = value >= 1, "positive"
            else:
                is_valid, expected = 0 <= value <= 1, "from 0 to 1"
            if not is_valid:
                raise UserError(
                    f"task.sampling.{name} must be {expected}. Received: {value}."
                )
        if self.rpn_negative_iou > self.rpn_positive_iou:
            raise UserError(
                "task.sampling.rpn_negative_iou must be at most rpn_positive_iou. "
                f"Received: {self.rpn_negative_iou} and {self.rpn_positive_iou}."
            )


@dataclasses.dataclass
class ExportConfig(hyperparams.Config):
    """The largest request that an exported network answers.

    A larger one is refused with an error, and the server goes on.

    Attributes:
        max_image_bytes: Bytes of a JPEG image.
        max_image_pixels: Pixels of an image, height times width.
        max_request_pixels: Pixels of all images of a request, in the size that the
            network sees them.
    """

    max_image_bytes: int = 2**25
    max_image_pixels: int = 2**26
    max_request_pixels: int = 2**26

    @property
    def limits(self) -> dict[str, int]:
        """The `max_...` fields."""
        return {name: getattr(self, name) for name in _EXPORT_LIMITS}

    def check(self):
        """Raises `UserError` for a limit below 1."""
        for name, value in self.limits.items():
            if value < 1:
                raise UserError(
                    f"task.export.{name} must be positive. Received: {value}."
                )


@dataclasses.dataclass
class DetectionConfig(TaskConfig):
    """The task: a network and two sets of annotated images.

    Attributes:
        init_checkpoint: Weights to start from: a model directory, one of its
            checkpoints, or any file that `keras_nonlocal.convert.load_weights` reads:
            torchvision's Mask R-CNN and Keypoint R-CNN, or ImageNet ResNets for the
            backbone. Non-local blocks that are not in it are added as identities.
        init_checkpoint_modules: `all`, or `backbone`, which initialises the layers
            anew whose sizes follow from the classes, for other classes.
        init_checkpoint_source: The project whose variable names the file has; `auto`
            detects it.
        init_checkpoint_epsilon: Of the batch normalisation that the weights were
            trained with, which no file shows. None: that of the source. torchvision's
            first COCO weights (`MaskRCNN_ResNet50_FPN_Weights.COCO_V1`) need 0.
        freeze_at: The backbone is not trained up to this stage, except for non-local
            blocks: 2 keeps conv1 and res2 (as Detectron and torchvision do), 1 conv1
            alone, 0 trains all.
        model: The network.
        train_data: Images, mirrored and scaled at random.
        validation_data: Images for evaluation.
        sampling: Which anchors and proposals are trained on.
        export: Limits of exported networks.
    """

    init_checkpoint_modules: str = "all"
    init_checkpoint_source: str = "auto"
    init_checkpoint_epsilon: float | None = None
    freeze_at: int = 0
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    train_data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(is_training=True)
    )
    validation_data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(is_training=False)
    )
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
    export: ExportConfig = dataclasses.field(default_factory=ExportConfig)

    def check(self):
        """Checks the settings that would otherwise fail late, or have no effect.

        Raises:
            UserError: Names the field and its valid values.
        """
        for name, is_training in (("train_data", True), ("validation_data", False)):
            data = getattr(self, name)
            with errors_of(f"task.{name}"):
                data.check()
            if data.is_training not in (None, is_training):
                raise UserError(
                    f"task.{name}.is_training is {data.is_training}, but it is always "
                    f"{is_training} for this data set: leave it out."
                )
        self._check_initialization()
        for part in (self.model, self.sampling, self.export):
            part.check()

    def _check_initialization(self):
        modules, source = self.init_checkpoint_modules, self.init_checkpoint_source
        check_key("task.init_checkpoint_modules", modules, CHECKPOINT_MODULES)
        check_key("task.init_checkpoint_source", source, ("auto", *SOURCES))
        if not 0 <= self.freeze_at <= 5:
            raise UserError(
                f"task.freeze_at must be from 0 to 5. Received: {self.freeze_at}."
            )
        if self.freeze_at and not self.init_checkpoint:
            raise UserError(
                f"task.freeze_at is {self.freeze_at}, but there are no trained weights "
                "to keep: set task.init_checkpoint, or task.freeze_at=0."
            )
