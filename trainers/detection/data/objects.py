"""The objects of a training image as arrays, as torchvision's recipes prepare them.

Boxes are clipped to the image and dropped without area, mirrored with the image, and
scaled with it; so are masks and keypoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask

from trainers.detection.data.coco import AnnotatedImage, Annotation

TARGETS = ("masks", "keypoints", "boxes")


class Objects(NamedTuple):
    """n objects, in the pixels of the image as it is stored.

    Attributes:
        boxes: float32 (n, 4): x1, y1, x2, y2.
        classes: int32 (n,): labels.
        is_crowd: bool (n,).
        masks: uint8 (n, height, width), 0 or 1; (n, 0, 0) if not wanted.
        keypoints: float32 (n, K, 3): x, y, visibility 0 to 2; all 0 of those that are
            not labelled. (n, 0, 3) if not wanted.
    """

    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray
    masks: np.ndarray
    keypoints: np.ndarray


def read_objects(
    image: AnnotatedImage,
    labels: Mapping[int, int],
    target: str,
    num_keypoints: int = 0,
    skip_crowd: bool = True,
    max_instances: int = 100,
) -> Objects:
    """The objects that training uses.

    Those without area in the image are left out, and without a mask if masks are
    wanted.

    Args:
        image: With annotations.
        labels: Category id -> label.
        target: `masks`, `keypoints` or `boxes`.
        num_keypoints: K.
        skip_crowd: Leave out crowds.
        max_instances: Later ones are left out.
    """
    size = image.height, image.width
    kept = [
        (found, box)
        for found, box in _with_boxes(image.annotations, size)
        if not (skip_crowd and found.is_crowd)
        and (target != "masks" or found.segmentation is not None)
    ][:max_instances]
    found, boxes = [f for f, _ in kept], [b for _, b in kept]
    masks = np.zeros((len(kept), 0, 0), np.uint8)
    if target == "masks":
        bitmaps = [decode_mask(f.segmentation, size) for f in found]
        masks = np.stack(bitmaps) if kept else np.zeros((0, *size), np.uint8)
    num_keypoints = num_keypoints if target == "keypoints" else 0
    points = [_keypoints(f, num_keypoints) for f in found]
    return Objects(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([labels[f.category] for f in found], np.int32),
        np.array([f.is_crowd for f in found], bool),
        masks,
        np.array(points, np.float32).reshape(len(kept), num_keypoints, 3),
    )


def _with_boxes(annotations: Iterable[Annotation], size):
    """The annotations that have an area in the image, with x1, y1, x2, y2."""
    height, width = size
    for found in annotations:
        x, y, w, h = found.bbox
        box = np.clip([x, y, x + w, y + h], 0, [width, height, width, height])
        box = box.astype(np.float32)
        if box[2] > box[0] and box[3] > box[1]:
            yield found, box


def _keypoints(found: Annotation, num_keypoints: int) -> np.ndarray:
    points = np.zeros((num_keypoints, 3), np.float32)
    if found.keypoints is not None and num_keypoints:
        is_labelled = found.keypoints[:, 2:] > 0
        points[:] = np.where(is_labelled, found.keypoints, 0)
    return points


def decode_mask(segmentation, size: tuple[int, int]) -> np.ndarray:
    """Bitmap of polygons or an RLE: uint8 (height, width), 0 or 1."""
    if not isinstance(segmentation, dict):
        segmentation = mask.merge(mask.frPyObjects(segmentation, *size))
    return mask.decode(segmentation)


def is_useful(image: AnnotatedImage, target: str, min_keypoints: int) -> bool:
    """Whether torchvision's recipes train with an image.

    It has an object whose box is wider and higher than 1 pixel, crowds included, and
    if keypoints are trained, at least `min_keypoints` that are labelled.
    """
    if not any(min(found.bbox[2:]) > 1 for found in image.annotations):
        return False
    count = sum(found.num_keypoints for found in image.annotations)
    return target != "keypoints" or count >= min_keypoints


def mirror(objects: Objects, width: int, flip_pairs: Sequence[int]) -> Objects:
    """Mirrors objects with an image of a width; left and right keypoints swap names.

    Args:
        objects: In the image.
        width: Of the image.
        flip_pairs: Numbers of the keypoints that swap, pair after pair.
    """
    boxes, points = objects.boxes.copy(), objects.keypoints.copy()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    if points.size:
        order = np.arange(points.shape[1])
        left, right = flip_pairs[::2], flip_pairs[1::2]
        order[[*left, *right]] = [*right, *left]
        points = points[:, order]
    points[..., 0] = np.where(points[..., 2] > 0, width - points[..., 0], 0)
    return objects._replace(
        boxes=boxes, keypoints=points, masks=objects.masks[:, :, ::-1]
    )


def scale(objects: Objects, size: Sequence[int], new_size: Sequence[int]) -> Objects:
    """Scales boxes and keypoints with an image from `size` to `new_size`.

    Args:
        objects: In the image.
        size: (height, width).
        new_size: (height, width).
    """
    ratio = np.array(new_size[::-1], np.float32) / np.array(size[::-1], np.float32)
    points = objects.keypoints * np.append(ratio, np.float32(1))
    return objects._replace(boxes=objects.boxes * np.tile(ratio, 2), keypoints=points)


def flip_pairs_of(names: Sequence[str]) -> list[int]:
    """Numbers of the keypoints named `left_X` and `right_X`, pair after pair.

    Example:
    >>> flip_pairs_of(["nose", "left_eye", "right_eye"])
    [1, 2]
    """
    numbers = {name: number for number, name in enumerate(names)}
    pairs = [
        (number, numbers[f"right_{name.removeprefix('left_')}"])
        for name, number in numbers.items()
        if name.startswith("left_") and f"right_{name.removeprefix('left_')}" in numbers
    ]
    return [number for pair in pairs for number in pair]
