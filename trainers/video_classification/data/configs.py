"""What a clip is, and how clips are read from videos.

`ClipConfig` defines a clip once for training, testing, prediction and the exported
model. `DataConfig` defines where videos are, and how clips are cut from them.
"""

import copy
import dataclasses
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from official.modeling import hyperparams

from trainers.core import config_definitions, files
from trainers.core.errors import UserError, check_key
from trainers.video_classification.data.augmentation_configs import (
    AugmentationConfig,
    MixupAndCutmixConfig,
)
from trainers.video_classification.data.limits import Limits
from trainers.video_classification.data.protocols import PROTOCOLS, TestProtocol

VIEWS_IN_TRAINING = ("one", "all")


@dataclasses.dataclass
class ClipConfig(hyperparams.Config):
    """One clip, written `num_frames x temporal_stride` (32x2 spans 64 frames).

    Its frames are a number of frames apart, or at a rate in time: exactly one of
    `temporal_stride` and `fps` is set. In files and overrides the one that is named
    last acts: it sets the other to None. To name both at once is an error.

    Attributes:
        num_frames: Number of frames that the network takes.
        temporal_stride: Distance between two of them, in frames of the video. None:
            `fps` is set.
        fps: Frames of a clip per second of the video, whatever the rate of the video:
            for data of mixed rates. Frame i of a clip is the one that is nearest to
            i / fps seconds after the first; the earlier, if two are equally near. A
            video of fewer frames a second repeats some.
        mean: RGB mean, 0-255 scale, subtracted from the pixels. None: the task sets
            the one that networks of `task.model.convention` expect.
        std: RGB standard deviation, 0-255 scale, that they are divided by. None:
            as for `mean`.
    """

    num_frames: int = 8
    temporal_stride: int | None = 8
    fps: float | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def set_temporal_stride(self, stride: int | None):
        """Sets `temporal_stride`; unless it is None, sets `fps` to None."""
        self.temporal_stride = stride
        self.fps = self.fps if stride is None else None

    def set_fps(self, fps: float | None):
        """Sets `fps`; unless it is None, sets `temporal_stride` to None."""
        self.fps = None if fps is None else float(fps)
        self.temporal_stride = self.temporal_stride if fps is None else None

    def check_together(self, values: Mapping):
        """Raises `UserError` for a stride and a rate in one mapping of a config."""
        stride, fps = values.get("temporal_stride"), values.get("fps")
        if stride is not None and fps is not None:
            _raise_both(stride, fps)

    def stride_at(self, frame_rate: float) -> float:
        """Distance between two frames, in frames of a video of `frame_rate`."""
        # In float32, as records store it.
        rate = float(np.float32(frame_rate))
        return rate / self.fps if self.fps else self.temporal_stride

    def check(self):
        """Raises `UserError` for values that no clip can have."""
        _check_at_least_1("num_frames", self.num_frames)
        if self.temporal_stride is None and self.fps is None:
            raise UserError(
                "neither `temporal_stride` (distance in frames) nor `fps` (frames per "
                "second) is set: set one, such as task.clip.temporal_stride=8."
            )
        if self.temporal_stride is not None and self.fps is not None:
            _raise_both(self.temporal_stride, self.fps)
        if self.temporal_stride is not None:
            _check_at_least_1("temporal_stride", self.temporal_stride)
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise UserError(f"`fps` must be a positive number. Received: {self.fps}.")
        _check_pixels("mean", self.mean, above=-math.inf)
        _check_pixels("std", self.std, above=0)


def _raise_both(stride, fps):
    raise UserError(
        f"`temporal_stride` is {stride} (distance in frames) and `fps` is {fps} "
        "(frames per second), but only one can act: set task.clip.fps=null or "
        "task.clip.temporal_stride=null."
    )


@dataclasses.dataclass(unsafe_hash=True)
class MediaLimits(hyperparams.Config, Limits):
    """The fields of `limits.Limits`, in a config."""

    def check(self):
        """Raises `UserError` for limits that no file can keep."""
        for name in ("pixels", "frames", "bytes"):
            _check_at_least_1(f"limits.{name}", getattr(self, name))
        if not self.seconds > 0:
            raise UserError(
                "`limits.seconds` must be a positive number of seconds. Received: "
                f"{self.seconds}."
            )


@dataclasses.dataclass
class DataConfig(config_definitions.DataConfig):
    """Where videos are, and how clips are cut from them.

    Every epoch visits all videos in a new random order; testing leaves none out.
    `global_batch_size` counts clips in training, and views in testing.

    Attributes:
        input_path: A folder of class folders, an index file, or TFRecord shards.
        index_format: Format of `input_path`. `auto` detects it. `folder`: one
            folder per class. `list`: lines of `path label`. `mmaction2`: lines
            of `path label [label ...]`. `rawframes`, `rawframes_offset`: lines of
            `folder [start] frames label [label ...]`. `kinetics`, `charades`: their
            CSV. `ucf101`: a split file. `tfrecord`: a folder or glob of shards written
            by `trainers/prepare_video.py`.
        video_root: Folder that relative paths of the index start from. Empty:
            the folder of the index file.
        class_file: File with one class name per line, in label order. Empty: taken
            from the index. Saved in the model directory as `classes.txt`.
        split: Rows of a CSV index to use, if it has a split column.
        is_multilabel: Every video may have several labels, or none.
        frame_rate: Frames per second of videos whose own rate is unknown, such as
            folders of frames. 0: it stays unknown, and `task.clip.fps` is an error.
        decoder: `pyav`, or `tfio` (needs TensorFlow 2.16-2.17).
        min_short_side: Training scales the short side to an integer drawn
            uniformly from [min_short_side, max_short_side]; testing uses
            min_short_side.
        max_short_side: See `min_short_side`.
        crop_size: Side of the square crop; at a random position in training.
        horizontal_flip: Mirror half of the training clips.
        sampling_exponent: q: the clips of an epoch are of class c in proportion to
            n_c^q, n_c being the number of its videos. 1: every video once in an
            epoch. 0.5: square-root sampling. 0: all classes equally often. A video
            with several labels counts for the rarest of them; those without labels
            are a class of their own. In training only.
        aug_type: RandAugment of the training clips; off by default.
        mixup_and_cutmix: Mixup and CutMix of the training clips; off by default.
        test_protocol: Which views of a video are scored at test; sets `crop_size`,
            `min_short_side`, `num_test_clips` and `num_test_crops`, unless they are
            named beside it or later. `spread`: clips from end to end, crops from edge
            to edge; sets nothing. `one_view`: one clip and one crop, both central.
            `paper`: 10 clips of the whole frame. `video_nonlocal_net`, `pyslowfast`,
            `mmaction2`: 10 clips x 3 crops of 256 x 256, exactly as these projects
            cut them. See docs/data.md.
        views_in_training: Views that evaluations during training score: `one`
            (those of the protocol `one_view`) or `all`. `--mode eval` scores all.
        num_test_clips: Clips per video at test.
        num_test_crops: 1 (centre) or 3 (along the long side) per clip at test.
        max_broken_fraction: The run stops when a larger fraction of the videos
            read so far could not be decoded.
        limits: Of what reading one file may cost, see `Limits`.
        num_parallel_decodes: Videos decoded at once; 0 means one per CPU core.
        frame_cache: Folder in which every video is kept as JPEG frames once it has
            been decoded: later epochs decode these, which is faster but takes more
            disk space (see docs/results.md). `/dev/shm/NAME` keeps them in memory.
            Random choices are made anew in every epoch, and videos that change are
            decoded again.
        frame_cache_gib: Limit of `frame_cache`, in GiB; the oldest videos are removed
            first. 0: as much as leaves 10 % of its disk free.
    """

    index_format: str = "auto"
    video_root: str = ""
    class_file: str = ""
    split: str = ""
    is_multilabel: bool = False
    frame_rate: float = 0.0
    decoder: str = "pyav"
    min_short_side: int = 256
    max_short_side: int = 320
    crop_size: int = 224
    horizontal_flip: bool = True
    sampling_exponent: float = 1.0
    aug_type: AugmentationConfig = dataclasses.field(default_factory=AugmentationConfig)
    mixup_and_cutmix: MixupAndCutmixConfig = dataclasses.field(
        default_factory=MixupAndCutmixConfig
    )
    test_protocol: str = "spread"
    views_in_training: str = "one"
    num_test_clips: int = 1
    num_test_crops: int = 1
    max_broken_fraction: float = 0.1
    limits: MediaLimits = dataclasses.field(default_factory=MediaLimits)
    num_parallel_decodes: int = 0
    frame_cache: str = ""
    frame_cache_gib: float = 0.0

    @property
    def protocol(self) -> TestProtocol:
        """How the test views are cut. Raises `UserError` for an unknown name."""
        check_key("test_protocol", self.test_protocol, PROTOCOLS)
        return PROTOCOLS[self.test_protocol]

    def set_test_protocol(self, name: str):
        """Sets `test_protocol` and the fields that it determines.

        Raises:
            UserError: Unknown name.
        """
        self.test_protocol = name
        for field, value in self.protocol.settings.items():
            setattr(self, field, value)

    def in_training(self) -> "DataConfig":
        """The views that evaluations during training score."""
        data = copy.deepcopy(self)
        if self.views_in_training == "one":
            data.set_test_protocol("one_view")
        return data

    def from_any_folder(self) -> "DataConfig":
        """A copy that means the same in any working directory, of any process."""
        data = copy.deepcopy(self)
        for name in ("input_path", "video_root", "frame_cache"):
            path = getattr(data, name)
            if path and not files.is_remote(path):
                setattr(data, name, os.path.abspath(path))
        return data

    def describe_views(self) -> str:
        """The test views in words: `spread, 10 clips x 3 crops of 256x256`."""
        clips = f"{self.num_test_clips} clip{'s' * (self.num_test_clips > 1)}"
        crops = f"{self.num_test_crops} crop{'s' * (self.num_test_crops > 1)}"
        size = f"{crops} of {self.crop_size}x{self.crop_size}"
        if self.protocol.whole_frame:
            size = "whole frames"
        return f"{self.test_protocol}, {clips} x {size}"

    def check(self):
        """Raises `UserError` for values of which no view or batch can be made."""
        self._check_views()
        self._check_protocol()
        self.check_service()
        self.limits.check()
        self._check_augmentation()
        if not 0 <= self.max_broken_fraction <= 1:  # NaN is refused, too
            raise UserError(
                "`max_broken_fraction` must be from 0 to 1. Received: "
                f"{self.max_broken_fraction}."
            )
        if not 0 <= self.frame_rate < math.inf:
            raise UserError(
                "`frame_rate` must be positive, or 0 if it is unknown. Received: "
                f"{self.frame_rate}."
            )
        if not 0 <= self.sampling_exponent <= 1:
            raise UserError(
                "`sampling_exponent` must be from 0 (all classes equally often) to 1 "
                f"(all videos equally often). Received: {self.sampling_exponent}."
            )
        if self.is_training is False and self.sampling_exponent != 1:
            raise UserError(
                "`sampling_exponent` is for training data: tests score every video "
                f"once. Received: {self.sampling_exponent}."
            )
        if self.num_parallel_decodes < 0:
            raise UserError(
                "`num_parallel_decodes` must be at least 1, or 0 for one per CPU core. "
                f"Received: {self.num_parallel_decodes}."
            )
        if self.prefetch_buffer_size is not None:
            _check_at_least_1("prefetch_buffer_size", self.prefetch_buffer_size)
        if self.frame_cache and self.decoder != "pyav":
            raise UserError(
                "`frame_cache` needs `decoder: pyav`. Received: "
                f"{self.decoder!r}. Leave one of the two at its default."
            )
        if not 0 <= self.frame_cache_gib < math.inf:
            raise UserError(
                "`frame_cache_gib` must be above 0, or 0 for as much as leaves 10 % of "
                f"the disk free. Received: {self.frame_cache_gib}."
            )

    def _check_views(self):
        for name in ("crop_size", "min_short_side", "num_test_clips"):
            _check_at_least_1(name, getattr(self, name))
        if self.num_test_crops not in (1, 3):
            raise UserError(
                "`num_test_crops` must be 1 (centre) or 3 (along the long side). "
                f"Received: {self.num_test_crops}."
            )
        if not self.crop_size <= self.min_short_side <= self.max_short_side:
            raise UserError(
                "Expected crop_size <= min_short_side <= max_short_side, so that every "
                f"crop fits in its frame. Received: {self.crop_size}, "
                f"{self.min_short_side}, {self.max_short_side}."
            )

    def _check_protocol(self):
        check_key("views_in_training", self.views_in_training, VIEWS_IN_TRAINING)
        name, crops = self.test_protocol, self.num_test_crops
        if name == "one_view" and (self.num_test_clips, crops) != (1, 1):
            raise UserError(
                "test_protocol `one_view` has one clip and one crop. Received: "
                f"num_test_clips={self.num_test_clips}, num_test_crops={crops}. For "
                "more, use `spread`."
            )
        if self.protocol.whole_frame and crops != 1:
            raise UserError(
                f"test_protocol `{name}` scores whole frames: num_test_crops must be "
                f"1. Received: {crops}."
            )
        side = self.min_short_side
        if self.protocol.crops_short_side and crops == 3 and self.crop_size != side:
            raise UserError(
                f"The three crops of test_protocol `{name}` are as large as the short "
                "side: set crop_size and min_short_side to the same. Received: "
                f"{self.crop_size} and {side}. Crops that leave a margin: `spread`."
            )

    def check_clip(self, clip: ClipConfig):
        """Raises `UserError` for clips of which no view can be cut."""
        clip.check()
        if clip.fps is not None and self.protocol.counts_frames:
            raise UserError(
                f"test_protocol `{self.test_protocol}` counts frames: set "
                "task.clip.temporal_stride instead of task.clip.fps, or another "
                "protocol, such as `spread` or `pyslowfast`."
            )

    def _check_augmentation(self):
        for name in ("aug_type", "mixup_and_cutmix"):
            options = getattr(self, name)
            options.check()
            if options.is_on and self.is_training is False:
                raise UserError(f"`{name}` is for training data only: leave it out.")
        self.check_pairs()

    def check_pairs(self, num_hosts: int = 1):
        """Raises `UserError` if clips are mixed, but the batch of a host is odd."""
        local = self.global_batch_size // num_hosts
        if self.mixup_and_cutmix.is_on and local % 2:
            raise UserError(
                "`mixup_and_cutmix` mixes pairs of clips: the batch of each host must "
                f"be even. Received: {local} of global_batch_size="
                f"{self.global_batch_size}."
            )

    def check_batch_size(self):
        """Raises `UserError` for batches without clips."""
        _check_at_least_1("global_batch_size", self.global_batch_size)


def _check_at_least_1(name: str, value: int):
    if value < 1:
        raise UserError(f"`{name}` must be at least 1. Received: {value}.")


def _check_pixels(name: str, values: Sequence[float] | None, above: float):
    if values is None:  # the convention's
        return
    fits = isinstance(values, Sequence) and len(values) == 3
    if not fits or not all(_is_number(v) and above < v < math.inf for v in values):
        positive = "positive " if above == 0 else ""
        raise UserError(
            f"`{name}` must be three {positive}numbers, for R, G and B on a "
            f"0-255 scale. Received: {values!r}."
        )


def _is_number(value) -> bool:
    return isinstance(value, int | float)
