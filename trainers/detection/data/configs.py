"""What the images of a detector are, and how batches are made of them."""

import dataclasses
from collections.abc import Sequence

from official.modeling import hyperparams

from trainers.core import config_definitions
from trainers.core.errors import UserError, check_key

LABELS = ("auto", "category_ids", "contiguous")


@dataclasses.dataclass
class ImageLimits(hyperparams.Config):
    """What one image file may have; one above a limit counts as broken.

    Attributes:
        pixels: Height times width. The default is 33 megapixels.
        bytes: Size of the file.
    """

    pixels: int = 2**25
    bytes: int = 2**28

    def check(self):
        """Raises `UserError` for limits that no image can keep."""
        for name, value in self.as_dict().items():
            _check_at_least_1(f"limits.{name}", value)


@dataclasses.dataclass
class DataConfig(config_definitions.DataConfig):
    """Annotated images, and how batches are made of them.

    Every epoch visits all images in a new random order; evaluation leaves none out.
    `global_batch_size` counts images.

    Attributes:
        input_path: Folder of images, or COCO TFRecords of the Model Garden: a folder
            or glob of shards.
        annotation_file: COCO JSON (instances or person_keypoints); the `file_name` of
            its images are relative to `input_path`. Empty: the one `.json` file in
            `input_path`. TFRecords need it for the categories, and in evaluation for
            the images.
        labels: How categories are numbered; label 0 is the background. `contiguous`:
            1 to n, sorted by id. `category_ids`: the label is the id, as in networks
            with 91 classes for COCO. `auto`: `category_ids` for COCO's 80 categories,
            else `contiguous`.
        min_size: Length of the short side of resized images; training draws one of
            several, evaluation uses the last.
        max_size: Largest length of the long side of resized images.
        horizontal_flip: Mirror half of the training images.
        keypoint_flip_pairs: Numbers of the keypoints, from 0, that a mirrored object
            swaps, pair after pair: `[1, 2, 3, 4]` swaps 1 with 2 and 3 with 4. None:
            those that the annotations name `left_X` and `right_X`.
        max_instances: Objects of a training image; those beyond are left out.
        aspect_ratio_grouping: Batches of training images that are all wider than
            high, or all not: less padding.
        skip_empty_images: Leave out training images without objects, as torchvision's
            recipes do: those whose boxes are all at most 1 pixel wide or high count
            as such.
        min_keypoints: Training images with fewer labelled keypoints are left out, if
            keypoints are trained and `skip_empty_images` is set. torchvision's recipe
            for COCO has 10.
        skip_crowd_during_training: Leave out crowds from training images. False: they
            are in the batches, marked by `is_crowd`.
        max_broken_fraction: The run stops when a larger fraction of the images read
            so far could not be decoded.
        limits: What one image file may have, see `ImageLimits`.
        num_parallel_decodes: Images decoded at once; 0 means one per CPU core.
    """

    annotation_file: str = ""
    labels: str = "auto"
    min_size: Sequence[int] = dataclasses.field(default_factory=lambda: [800])
    max_size: int = 1333
    horizontal_flip: bool = True
    keypoint_flip_pairs: Sequence[int] | None = None
    max_instances: int = 100
    aspect_ratio_grouping: bool = False
    skip_empty_images: bool = True
    min_keypoints: int = 1
    skip_crowd_during_training: bool = True
    max_broken_fraction: float = 0.1
    limits: ImageLimits = dataclasses.field(default_factory=ImageLimits)
    num_parallel_decodes: int = 0

    def check(self):
        """Raises `UserError` for values of which no batch can be made."""
        check_key("labels", self.labels, LABELS)
        if not self.min_size:
            raise UserError("`min_size` must have at least one length, such as [800].")
        for side in self.min_size:
            _check_at_least_1("min_size", side)
        if self.max_size < max(self.min_size):
            raise UserError(
                f"`max_size` ({self.max_size}) must be at least as large as every "
                f"`min_size`. Received: {list(self.min_size)}."
            )
        _check_at_least_1("max_instances", self.max_instances)
        self.limits.check()
        self._check_flip_pairs()
        self._check_fractions()
        if self.enable_tf_data_service:
            raise UserError(
                "`enable_tf_data_service` makes batches of clips; batches of images "
                "are made by the trainer itself. Leave it out."
            )

    def check_batch_size(self):
        """Raises `UserError` for batches without images."""
        _check_at_least_1("global_batch_size", self.global_batch_size)

    def _check_flip_pairs(self):
        numbers = self.keypoint_flip_pairs or ()
        if len(numbers) % 2 or len(set(numbers)) < len(numbers):
            raise UserError(
                "`keypoint_flip_pairs` must be different numbers, pair after pair: "
                f"[1, 2, 3, 4] swaps 1 with 2 and 3 with 4. Received: {list(numbers)}."
            )

    def _check_fractions(self):
        if not 0 <= self.max_broken_fraction <= 1:  # NaN is refused, too
            raise UserError(
                "`max_broken_fraction` must be from 0 to 1. Received: "
                f"{self.max_broken_fraction}."
            )
        for name in ("num_parallel_decodes", "min_keypoints"):
            if getattr(self, name) < 0:
                raise UserError(
                    f"`{name}` must not be negative. Received: {getattr(self, name)}."
                )
        if self.prefetch_buffer_size is not None:
            _check_at_least_1("prefetch_buffer_size", self.prefetch_buffer_size)


def _check_at_least_1(name: str, value: int):
    if value < 1:
        raise UserError(f"`{name}` must be at least 1. Received: {value}.")
