"""What a video classification experiment is made of, as Model Garden dataclasses.

`ClipConfig` says what one clip is, once, for training, testing, prediction and
the exported model alike; `DataConfig` says where clips come from and how they
are cut; `ModelConfig` is passed to `keras_nonlocal.C2D` or `I3D` as it stands.
Experiments put together from these are registered in `experiments.py`.
"""

import dataclasses
from collections.abc import Sequence

from official.core import config_definitions as cfg
from official.modeling import hyperparams


@dataclasses.dataclass
class ClipConfig(hyperparams.Config):
    """One clip, written `num_frames x temporal_stride` (32x2 spans 64 frames).

    Attributes:
        num_frames: Frames the network sees.
        temporal_stride: Video frames from one of them to the next.
        mean: RGB mean, 0-255 scale, subtracted from the pixels. None: what
            networks of `task.model.convention` expect, put here by the task.
        std: RGB standard deviation, 0-255 scale, that they are divided by. None:
            as for `mean`.
    """

    num_frames: int = 8
    temporal_stride: int = 8
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


@dataclasses.dataclass
class DataConfig(cfg.DataConfig):
    """Where videos are, and how clips are cut from them.

    Attributes (beyond those of the Model Garden's `DataConfig`, of which
    `input_path`, `global_batch_size` (clips; views at test), `is_training`,
    `cache` (at test), `seed`, `deterministic` and `prefetch_buffer_size` apply,
    and the others are refused: every epoch is shuffled whole, without a buffer,
    and no video is left out of a test, whatever `drop_remainder` says):
        index_format: What `input_path` is. `auto` looks at it. `folder`: one
            folder per class. `list`: lines of `path label`. `mmaction2`: lines
            of `path label [label ...]`. `kinetics`, `charades`: their CSV.
            `ucf101`: a split file. `tfrecord`: a glob of shards written by
            `trainers/prepare_video.py`.
        video_root: Folder that relative paths of the index start from. Empty:
            the folder of the index file.
        class_file: One class name per line, in label order. Empty: taken from
            the index, and saved in the model directory as `classes.txt`.
        split: Rows of a CSV index to take, where it has a split column.
        is_multilabel: Every video may have several labels, or none.
        decoder: `pyav`, or `tfio` (needs TensorFlow 2.16-2.17).
        min_short_side: Training scales the short side to an integer drawn
            uniformly from [min_short_side, max_short_side]; testing uses
            min_short_side.
        max_short_side: See `min_short_side`.
        crop_size: Side of the square crop; random in training.
        horizontal_flip: Mirror half of the training clips.
        num_test_clips: Clips per video at test, spread evenly over it.
        num_test_crops: 1 (centre) or 3 (along the long side) per clip at test.
        max_broken_fraction: The run stops when a larger fraction of the videos
            it has read could not be decoded.
        num_parallel_decodes: Videos decoded at once; 0 means one per CPU core.
        frame_cache: Folder where every video is kept as JPEG frames once it has
            been decoded: a quarter of the work from the second epoch on, for
            about eight times the disk. `/dev/shm/NAME` keeps it in memory. What
            is drawn at random stays so; videos that change are decoded again.
    """

    index_format: str = "auto"
    video_root: str = ""
    class_file: str = ""
    split: str = ""
    is_multilabel: bool = False
    decoder: str = "pyav"
    min_short_side: int = 256
    max_short_side: int = 320
    crop_size: int = 224
    horizontal_flip: bool = True
    num_test_clips: int = 1
    num_test_crops: int = 1
    max_broken_fraction: float = 0.1
    num_parallel_decodes: int = 0
    frame_cache: str = ""


@dataclasses.dataclass
class ModelConfig(hyperparams.Config):
    """The network; every field but `name` is an argument of its builder.

    Attributes:
        name: `c2d` or `i3d`.
        num_classes: 0 means as many as the class list has.
        temporal_kernel: For `i3d` only.
        non_local: Number of blocks (None, 1, 5, 10), or stage -> block indices.
        non_local_options: Arguments of `NonLocal3D`.
        width: Channels after the first convolution (64 in the paper); every
            other width follows it.
        stride_in_1x1: Residual blocks stride in their first convolution, as the
            ResNets of `keras.applications` do; needed to start from these.
    """

    name: str = "i3d"
    depth: int = 50
    num_classes: int = 0
    stem: str = "8x8"
    temporal_kernel: str = "3x1x1"
    non_local: int | dict | None = None
    non_local_options: dict | None = None
    convention: str = "video_nonlocal_net"
    width: int = 64
    dropout_rate: float = 0.5
    stride_in_1x1: bool = False


@dataclasses.dataclass
class LossesConfig(hyperparams.Config):
    """Cross-entropy with softmax, or with a sigmoid per class (`is_multilabel`).

    Attributes:
        label_smoothing: Mixes this much of the uniform distribution into the
            labels.
    """

    label_smoothing: float = 0.0


@dataclasses.dataclass
class EvaluationConfig(hyperparams.Config):
    """How a video is scored from its views.

    Attributes:
        view_aggregation: `mean` of the views' probabilities (paper), or their
            `max`, which suits long videos with many labels.
    """

    view_aggregation: str = "mean"


@dataclasses.dataclass
class ExportConfig(hyperparams.Config):
    """The form of exported networks.

    Attributes:
        precision: What they compute in, and keep their weights in: `float32` or
            `bfloat16`. None: as in training. Logits and probabilities are float32
            always.
        constants: The weights are constants of the graph, which a CPU lays out once
            for its kernels, not at every call: 5 to 9 % faster in float32, 8 to 12 %
            in bfloat16, for 1 to 2 GiB more memory while loading, and with non-local
            blocks twice the file.
    """

    precision: str | None = None
    constants: bool = False


@dataclasses.dataclass
class VideoClassificationConfig(cfg.TaskConfig):
    """The task: a network, clips, two data sets, a loss and a test protocol.

    Attributes:
        init_checkpoint: Where to start from: a model directory, one of its
            checkpoints, or any file that `keras_nonlocal.convert.load_weights`
            reads: `.keras`, `.weights.h5`, networks of video-nonlocal-net (`.pkl`),
            PySlowFast, mmaction2 and GluonCV, ImageNet ResNets of torchvision, timm
            and Keras. Non-local blocks that it has not are added, as identities:
            the network starts with the outputs that it had, which is checked.
        init_checkpoint_modules: What to take from it: `all`, or `backbone`, which
            leaves the classifier new, for other classes than it was trained on.
        init_checkpoint_source: Whose names its weights have; `auto` finds out. Of
            `.pkl` files it cannot tell those of PySlowFast's model zoo: set
            `pyslowfast_caffe2`.
        init_checkpoint_pixels: `same`: `clip.mean` and `clip.std` must be those that
            the weights were trained with, where that is known. `any`: a difference
            is only told of, for fine-tuning.
        freeze_backbone: The residual network keeps the weights of `init_checkpoint`;
            the non-local blocks and the classifier are trained.
        freeze_batch_norm: Every batch normalisation of the residual network keeps
            its statistics, scale and offset: the "affine" training of long clips
            and small batches. Those of non-local blocks are trained; the affine
            networks have none: `task.model.non_local_options={normalization: null}`.
        model: The network.
        clip: What one clip is.
        train_data: Clips cut at random.
        validation_data: Views that cover the video.
        losses: What is minimised.
        evaluation: How videos are scored.
        export: The form of exported networks.
    """

    init_checkpoint_modules: str = "all"
    init_checkpoint_source: str = "auto"
    init_checkpoint_pixels: str = "same"
    freeze_backbone: bool = False
    freeze_batch_norm: bool = False
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    clip: ClipConfig = dataclasses.field(default_factory=ClipConfig)
    train_data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(is_training=True)
    )
    validation_data: DataConfig = dataclasses.field(
        default_factory=lambda: DataConfig(is_training=False, drop_remainder=False)
    )
    losses: LossesConfig = dataclasses.field(default_factory=LossesConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    export: ExportConfig = dataclasses.field(default_factory=ExportConfig)
