"""The images of a data set, its classes and its keypoints."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import numpy as np

from trainers.core import files
from trainers.core.classes import describe_changes
from trainers.core.errors import DataError, warn
from trainers.detection.data import records
from trainers.detection.data.coco import AnnotatedImage, Category, read_coco
from trainers.detection.data.configs import DataConfig

BACKGROUND = "background"
_MAX_NAMED = 5
_OUTSIDE = 1.0  # pixels: boxes rounded to whole ones may reach this far out
# The ids of COCO's 80 categories: 1 to 90 without these.
_COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
_COCO_IDS = frozenset(range(1, 91)) - _COCO_GAPS


@dataclasses.dataclass(frozen=True)
class Index:
    """All images of a data set.

    Attributes:
        images: Those that exist.
        class_names: By label; 0 is the background.
        category_ids: By label: the id in the annotation file, or None.
        keypoints: Names of the keypoints; empty if no category has any.
        skeleton: Pairs of keypoint numbers that are joined in drawings.
        path: The `input_path` it was read from.
        missing: Paths of the images that are listed but do not exist.
    """

    images: tuple[AnnotatedImage, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int | None, ...]
    keypoints: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    path: str
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """Number of labels, with the background."""
        return len(self.class_names)

    @property
    def num_keypoints(self) -> int:
        return len(self.keypoints)

    @functools.cached_property
    def labels(self) -> dict[int, int]:
        """Category id -> label."""
        pairs = enumerate(self.category_ids)
        return {identity: label for label, identity in pairs if identity is not None}

    @functools.cached_property
    def digest(self) -> str:
        """Differs if the images, their sizes or their boxes differ."""
        digest = hashlib.sha256()
        for image in self.images:
            boxes = [(a.category, *a.bbox) for a in image.annotations or ()]
            digest.update(repr((image[:4], boxes)).encode())
        return digest.hexdigest()


def load_index(data: DataConfig, class_names: Sequence[str] | None = None) -> Index:
    """Reads the annotations of the images at `data.input_path`.

    What is wrong with boxes and masks is counted in a warning; missing images are
    left out, with a warning.

    Args:
        data: `input_path`, `annotation_file` and `labels` are used.
        class_names: Of the model, by label. None: those of the annotations.

    Raises:
        DataError: The annotations cannot be used, or no image exists. The message
            names the file and the entry.
    """
    if not isinstance(data.input_path, str) or not data.input_path:
        raise DataError(
            "`input_path` must name a folder of images, or COCO TFRecords. Received: "
            f"{data.input_path!r}."
        )
    shards = records.find_shards(data.input_path)
    annotation_file = data.annotation_file or _find_annotations(data, shards)
    skips_images = bool(shards) and bool(data.is_training)
    content = read_coco(annotation_file, data.input_path, skips_images)
    names, ids = _classes(content.categories, data.labels, class_names, annotation_file)
    images, missing = content.images, ()
    if shards:
        images = _recorded(data, shards, content.images)
    else:
        images, missing = _existing(images, annotation_file, data.input_path)
        _warn_of_objects(annotation_file, images)
    with_keypoints = [c for c in content.categories if c.keypoints]
    first = with_keypoints[0] if with_keypoints else Category(0, "")
    return Index(
        images, names, ids, first.keypoints, first.skeleton, data.input_path, missing
    )


def _find_annotations(data: DataConfig, shards: list[str]) -> str:
    if shards:
        raise DataError(
            f"{data.input_path}: TFRecords have no class names: set `annotation_file` "
            "to the COCO JSON that they were made of."
        )
    if not files.is_folder(data.input_path):
        raise DataError(
            f"{data.input_path}: there is no such folder of images, and no TFRecords."
        )
    found = sorted(n for n in files.listdir(data.input_path) if n.endswith(".json"))
    if len(found) != 1:
        listed = f"has several: {', '.join(found)}" if found else "has none"
        raise DataError(
            f"{data.input_path}: the annotations are expected in one `.json` file "
            f"beside the images, but the folder {listed}. Set `annotation_file`."
        )
    return files.join(data.input_path, found[0])


# === Classes ===


def _classes(categories, labels: str, trained, path: str):
    """Class names and category ids by label."""
    if trained is not None:
        return _as_trained(categories, tuple(trained), path)
    ids = [category.id for category in categories]
    is_coco = set(ids) == _COCO_IDS
    if labels == "contiguous" or (labels == "auto" and not is_coco):
        names = (category.name for category in categories)
        return (BACKGROUND, *names), (None, *ids)
    if min(ids) < 1 or max(ids) > 10_000:
        raise DataError(
            f"{path}: `labels: category_ids` needs ids from 1 to 10000. Received: "
            f"{min(ids)} to {max(ids)}. Set `labels: contiguous`."
        )
    names = {category.id: category.name for category in categories}
    every = range(1, max(ids) + 1)
    return (
        (BACKGROUND, *(names.get(number, f"N/A {number}") for number in every)),
        (None, *(number if number in names else None for number in every)),
    )


def _as_trained(categories, names: tuple[str, ...], path: str):
    by_name = {category.name: category.id for category in categories}
    if set(by_name) - set(names[1:]):
        changes = describe_changes(names[1:], list(by_name))
        raise DataError(
            f"{path}: has categories that the network was not trained for ({changes})."
        )
    return names, (None, *(by_name.get(name) for name in names[1:]))


# === Images ===


def _existing(images, annotation_file: str, folder: str):
    """The images that exist, and the paths of the others."""
    if not images:
        raise DataError(f"{annotation_file}: `images` is empty.")
    # Looking for every file in a remote store takes hours: only the first is.
    looked_for = images[:1] if files.is_remote(images[0].path) else images
    missing = tuple(i.path for i in looked_for if not files.is_file(i.path))
    if len(missing) == len(looked_for):
        raise DataError(
            f"{annotation_file}: none of its {len(images)} images exists in "
            f"{folder} (`input_path`); the first is {files.printable(missing[0])}."
        )
    if missing:
        named = ", ".join(map(files.printable, missing[:_MAX_NAMED]))
        more = ", ..." if len(missing) > _MAX_NAMED else ""
        warn(
            f"{annotation_file}: {len(missing)} of the {len(images)} images listed do "
            f"not exist and are left out: {named}{more}"
        )
    absent = set(missing)
    return tuple(i for i in images if i.path not in absent), missing


def _recorded(data: DataConfig, shards, listed) -> tuple[AnnotatedImage, ...]:
    """The images of TFRecords.

    Those for training are known by their offset alone. For evaluation every record
    is read once; the annotations are those of the file.
    """
    paths = records.list_records(shards)
    if not paths:
        raise DataError(f"{data.input_path}: the TFRecords are empty.")
    if data.is_training:
        return tuple(AnnotatedImage(-1, path, 0, 0, None) for path in paths)
    by_id = {image.id: image for image in listed}
    found = {}
    for path in paths:
        identity = records.read_record(path)[0].id
        if identity not in by_id or identity in found:
            what = "twice" if identity in found else "not in `annotation_file`"
            raise DataError(f"{files.printable(path)}: image {identity} is {what}.")
        found[identity] = by_id[identity]._replace(path=path)
    return tuple(found.values())


# === What is wrong with objects ===


def _warn_of_objects(path: str, images: Sequence[AnnotatedImage]) -> None:
    """Counts boxes that are clipped or dropped in training, and invalid masks."""
    rows = [
        (*a.bbox, i.width, i.height) for i in images for a in i.annotations if a.bbox
    ]
    x, y, width, height, w, h = np.array(rows or [[0, 0, 1, 1, 1, 1]], float).T
    left, top = np.minimum(x, w), np.minimum(y, h)
    with np.errstate(over="ignore"):  # the largest of numbers: infinity is clipped
        ends = np.stack([x + width, y + height])
    right, bottom = np.clip(ends[0], 0, w), np.clip(ends[1], 0, h)
    is_empty = (right <= np.maximum(left, 0)) | (bottom <= np.maximum(top, 0))
    margins = np.stack([-x, -y, ends[0] - w, ends[1] - h])
    is_outside = (margins > _OUTSIDE).any(0) & ~is_empty
    masked = [a for i in images for a in i.annotations if a.segmentation is not None]
    for count, problem in (
        (is_outside.sum(), "boxes reach out of their image: training clips them"),
        (is_empty.sum(), "boxes have no area in their image: training drops them"),
        (
            len(rows) - len(masked) if masked else 0,
            "objects have no valid mask: training and evaluation of masks drop them",
        ),
    ):
        if count:
            warn(f"{path}: {count} of the {len(rows)} {problem}.")
