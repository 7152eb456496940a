"""Images read by number; the work runs in TensorFlow's threads."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from trainers.core.errors import DataError
from trainers.core.failures import FailureLog
from trainers.detection.data import objects, records, sampling
from trainers.detection.data.coco import AnnotatedImage
from trainers.detection.data.images import ImageError, decode_image, read_image
from trainers.detection.data.index import Index

if TYPE_CHECKING:
    from keras_nonlocal.models import DetectionConvention
    from trainers.detection.data.configs import DataConfig

_ATTEMPTS_PER_CHECK = 20


class SampleReader:
    """Reads training samples and images for evaluation by number.

    Args:
        index: From `load_index`.
        data: See `make_dataset`.
        convention: Its `mean`, `std` and `color` are those of the network's input.
        target: `masks`, `keypoints` or `boxes`.
        seed: Of the order and the augmentation.
        failures: Counts broken images.
    """

    def __init__(
        self,
        index: Index,
        data: DataConfig,
        convention: DetectionConvention,
        target: str,
        seed: int,
        failures: FailureLog,
    ):
        self.index, self.data, self.target = index, data, target
        self.convention, self.seed, self.failures = convention, seed or 0, failures
        self.num_threads = data.num_parallel_decodes or len(os.sched_getaffinity(0))
        self.flip_pairs = _flip_pairs(index, data)
        if data.is_training:
            self.order = self._order()

    def _order(self) -> sampling.ImageOrder:
        images, data = self.index.images, self.data
        in_records = images[0].annotations is None
        kept = [n for n, i in enumerate(images) if in_records or self._is_useful(i)]
        if not kept:
            raise DataError(
                f"{self.index.path}: none of the {len(images)} images has an object "
                f"with {self.target}: there is nothing to train with."
            )
        groups = None
        if data.aspect_ratio_grouping:
            if in_records:
                raise DataError(
                    "`aspect_ratio_grouping` needs the sizes of all images, which "
                    f"TFRecords ({self.index.path}) tell only as they are read: leave "
                    "it out."
                )
            groups = [images[n].width > images[n].height for n in kept]
        size = data.global_batch_size
        return sampling.ImageOrder(self.seed, kept, groups, size)

    def _is_useful(self, image: AnnotatedImage) -> bool:
        data = self.data
        return not data.skip_empty_images or objects.is_useful(
            image, self.target, data.min_keypoints
        )

    # === Training ===

    def training_sample(self, number: tf.Tensor) -> dict[str, tf.Tensor]:
        """The row of a batch, without padding."""
        types = [tf.uint8, tf.int32, tf.float32, tf.int32, tf.bool, tf.uint8]
        pixels, size, boxes, classes, is_crowd, masks, keypoints = self._call(
            self.read_sample, number, [*types, tf.float32]
        )
        size.set_shape((2,))
        boxes.set_shape((None, 4))
        classes.set_shape((None,))
        is_crowd.set_shape((None,))
        row = {
            "images": self._network_input(pixels, size),
            "sizes": size,
            "boxes": boxes,
            "classes": classes,
            "is_crowd": is_crowd,
            "sample": tf.cast(number, tf.int64),
            "weight": tf.constant(1.0),
        }
        if self.target == "masks":
            masks.set_shape((None, None, None))
            row["masks"] = _resize_nearest(masks, size)
        if self.target == "keypoints":
            row["keypoints"] = tf.ensure_shape(
                keypoints, (None, self.index.num_keypoints, 3)
            )
        return row

    def read_sample(self, number: int) -> tuple[np.ndarray, ...]:
        """Sample `number`; of another image if its own cannot be used.

        Returns:
            Pixels and the size to scale them to; boxes and keypoints in that size,
            masks in that of the pixels.
        """
        position, attempt = self.order.image(number), 0
        while True:
            generator = sampling.sample_generator(self.seed, number, attempt)
            if attempt:
                position = self.order.replacement(number, generator)
            found = self._read(position)
            if found is not None and self._is_useful(found[0]):
                return self._augmented(*found, generator)
            attempt += 1
            if attempt % _ATTEMPTS_PER_CHECK == 0:
                self.failures.check_any_left(i.path for i in self.index.images)

    def _augmented(self, image: AnnotatedImage, pixels, generator):
        data = self.data
        found = objects.read_objects(
            image,
            self.index.labels,
            self.target,
            self.index.num_keypoints,
            data.skip_crowd_during_training,
            data.max_instances,
        )
        side = data.min_size[generator.integers(len(data.min_size))]
        if data.horizontal_flip and generator.random() < 0.5:
            pixels = pixels[:, ::-1]
            found = objects.mirror(found, image.width, self.flip_pairs)
        size = scaled_size(image.height, image.width, side, data.max_size)
        found = objects.scale(found, (image.height, image.width), size)
        return (
            np.ascontiguousarray(pixels),
            np.array(size, np.int32),
            found.boxes,
            found.classes,
            found.is_crowd,
            np.ascontiguousarray(found.masks),
            found.keypoints,
        )

    # === Evaluation ===

    def evaluation_sample(self, position: tf.Tensor) -> dict[str, tf.Tensor]:
        """The row of a batch, without padding; of weight 0 if the image is broken."""
        types = [tf.uint8, tf.int32, tf.int32, tf.int64, tf.float32]
        pixels, size, original_size, image_id, weight = self._call(
            self._read_evaluation, position, types
        )
        size.set_shape((2,))
        return {
            "images": self._network_input(pixels, size),
            "sizes": size,
            "original_sizes": tf.ensure_shape(original_size, (2,)),
            "image_id": tf.ensure_shape(image_id, ()),
            "weight": tf.ensure_shape(weight, ()),
        }

    def _read_evaluation(self, position: int):
        found = self._read(position) if position < len(self.index) else None
        if found is None:
            blank = np.zeros((1, 1, 3), np.uint8), np.ones(2, np.int32)
            return *blank, np.ones(2, np.int32), np.int64(-1), np.float32(0)
        image, pixels = found
        height, width = size = pixels.shape[:2]
        scaled = scaled_size(height, width, self.data.min_size[-1], self.data.max_size)
        sizes = np.array(scaled, np.int32), np.array(size, np.int32)
        return pixels, *sizes, np.int64(image.id), np.float32(1)

    # === Both ===

    def _network_input(self, pixels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        pixels.set_shape((None, None, 3))
        return normalized(tf.image.resize(pixels, size), self.convention)

    def _call(self, function, number: tf.Tensor, types: list):
        # Not stateful: the result depends on `number` alone. With op determinism
        # TensorFlow would run a stateful function one sample at a time.
        return tf.numpy_function(
            self._guarded(function), [number], types, stateful=False
        )

    def _guarded(self, function):
        @tf.autograph.experimental.do_not_convert
        def call(number):
            try:
                return function(int(number))
            except Exception as error:
                self.failures.error = error
                raise

        return call

    def _read(self, position: int) -> tuple[AnnotatedImage, np.ndarray] | None:
        """An image; None if it is broken. Too many of these raise an error."""
        image = self.index.images[position]
        if image.path in self.failures.failures:
            self.failures.check()
            return None
        self.failures.attempt(image.path)
        try:
            return self._decoded(image)
        except ImageError as error:
            self.failures.record(image.path, error.reason)
        finally:
            self.failures.check()
        return None

    def _decoded(self, image: AnnotatedImage) -> tuple[AnnotatedImage, np.ndarray]:
        limits = self.data.limits
        if not records.is_record(image.path):
            size = image.height, image.width
            return image, read_image(image.path, limits, size)
        recorded, content = records.read_record(image.path)
        if image.annotations is None:
            image = recorded
            self._check_labels(image)
        size = image.height, image.width
        return image, decode_image(content, image.path, limits, size)

    def _check_labels(self, image: AnnotatedImage) -> None:
        unknown = {a.category for a in image.annotations} - set(self.index.labels)
        if unknown:
            found = f"has category ids that no annotation file lists: {unknown}."
            raise ImageError(image.path, found)


def scaled_size(
    height: int, width: int, min_size: int, max_size: int
) -> tuple[int, int]:
    """(height, width) in which the network sees an image, as in torchvision.

    The short side gets `min_size` pixels, but the long one at most `max_size`.

    Example:
    >>> scaled_size(480, 640, 800, 1333)
    (800, 1066)
    """
    scale = min(min_size / min(height, width), max_size / max(height, width))
    return max(math.floor(scale * height), 1), max(math.floor(scale * width), 1)


def normalized(pixels: tf.Tensor, convention: DetectionConvention) -> tf.Tensor:
    """RGB pixels of 0-255 as the network's input.

    Args:
        pixels: float32 (h, w, 3).
        convention: Its `mean`, `std` and `color` are used.
    """
    if convention.color == "BGR":
        pixels = pixels[..., ::-1]
    return (pixels - np.float32(convention.mean)) / np.float32(convention.std)


def _resize_nearest(masks: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Masks (n, height, width) in another size: pixel i is that at floor(i / scale).

    So does torch.nn.functional.interpolate, by which torchvision resizes them.
    """
    resize = tf.raw_ops.ResizeNearestNeighbor
    scaled = resize(images=masks[..., None], size=size, half_pixel_centers=False)
    return scaled[..., 0]


def _flip_pairs(index: Index, data: DataConfig) -> Sequence[int]:
    pairs = data.keypoint_flip_pairs
    if pairs is None:
        return objects.flip_pairs_of(index.keypoints)
    wrong = [number for number in pairs if not 0 <= number < index.num_keypoints]
    if wrong:
        raise DataError(
            f"`keypoint_flip_pairs` has numbers that are not from 0 to "
            f"{index.num_keypoints - 1}: {wrong}."
        )
    return list(pairs)
