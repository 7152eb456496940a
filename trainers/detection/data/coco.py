"""COCO's JSON: images, their annotations and the categories, checked as they are read.

`images` need `id`, `file_name`, `height` and `width`; `annotations` need `id`,
`image_id`, `category_id` and `bbox` (x, y, width, height); `categories` need `id` and
`name`. An annotation may have a `segmentation` (polygons or RLE), `keypoints` (x, y,
visibility of each that its category lists), `iscrowd` (else 0) and `area` (else that of
its box).
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask

from trainers.core import files
from trainers.core.errors import DataError

_LISTS = ("images", "annotations", "categories")
_MAX_NAMED = 5
_NUMBER = (int, float)
_NAMES = "a list of names"
_MAX_SIDE = 2**24  # pixels; more is no image


class Category(NamedTuple):
    """A category of objects, as in the file.

    Attributes:
        id: As in the file.
        name: Unique.
        keypoints: Their names; empty if it has none.
        skeleton: Pairs of keypoint numbers, from 0, that are joined in drawings.
    """

    id: int
    name: str
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()


class Annotation(NamedTuple):
    """One object, or a crowd of them, as in the file.

    Attributes:
        category: Id of its category.
        bbox: x, y, width, height.
        area: In pixels.
        is_crowd: Whether it is a crowd.
        segmentation: Polygons (x, y, x, y, ...), or an RLE with `size` and `counts`.
            None: it has none that is valid.
        keypoints: float32 (K, 3): x, y and visibility, 0 to 2; None: it has none.
        num_keypoints: Those with a visibility above 0.
    """

    category: int
    bbox: tuple[float, float, float, float]
    area: float
    is_crowd: bool = False
    segmentation: list[np.ndarray] | dict | None = None
    keypoints: np.ndarray | None = None
    num_keypoints: int = 0


class AnnotatedImage(NamedTuple):
    """An image and its objects.

    Attributes:
        id: As in the file.
        path: Of its file, or `shard.tfrecord#offset` of a record.
        height: In pixels.
        width: In pixels.
        annotations: None: they are in the record.
    """

    id: int
    path: str
    height: int
    width: int
    annotations: tuple[Annotation, ...] | None


class Contents(NamedTuple):
    """A file's images, in its order, and categories, sorted by id."""

    images: tuple[AnnotatedImage, ...]
    categories: tuple[Category, ...]


def read_coco(path: str, image_folder: str, categories_only: bool = False) -> Contents:
    """Reads a JSON file.

    Args:
        path: The file.
        image_folder: Where the `file_name` of the images start from.
        categories_only: Leave out the images.

    Raises:
        DataError: It cannot be used; the message names the entry.
    """
    content = files.read_json(path)
    if not isinstance(content, dict) or not all(name in content for name in _LISTS):
        raise DataError(
            f"{path}: is not in COCO's format: expected an object with the lists "
            f"{', '.join(_LISTS)}."
        )
    for name in _LISTS:
        if not isinstance(content[name], list):
            raise DataError(f"{path}: `{name}` must be a list.")
        _check_ids(path, name, content[name])
    categories = _categories(path, content["categories"])
    if categories_only:
        return Contents((), categories)
    return Contents(_images(path, image_folder, content, categories), categories)


class Entry:
    """One entry of a list of the file, whose values are checked as they are read."""

    def __init__(self, path: str, kind: str, values):
        self._path, self._kind, self._values = path, kind, values

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def get(self, key: str, kind, what: str):
        """A value that must be there, and of a type."""
        value = self._values.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.error(key, what)
        return value

    def numbers(self, key: str, count: int, what: str) -> list[float]:
        """A list of `count` finite numbers."""
        values = self.get(key, list, what)
        fits = len(values) == count and all(isinstance(v, _NUMBER) for v in values)
        if not fits or not all(map(math.isfinite, values)):
            raise self.error(key, what)
        return values

    def error(self, key: str, what: str) -> DataError:
        found = (
            f"Received: {self._values[key]!r:.80}" if key in self else "It is absent"
        )
        number = self._values.get("id", "without id")
        return DataError(
            f"{self._path}: {self._kind} {number}: `{key}` must be {what}. {found}."
        )


def _check_ids(path: str, name: str, entries: list) -> None:
    kind = name.removesuffix("s") if name != "categories" else "category"
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f"{path}: {name}[{position}] must be an object.")
        identity = entry.get("id")
        if not isinstance(identity, int) or not -(2**63) <= identity < 2**63:
            raise DataError(
                f"{path}: {name}[{position}]: `id` must be an integer. Received: "
                f"{identity!r:.80}."
            )
    counts = collections.Counter(entry["id"] for entry in entries)
    twice = [identity for identity, count in counts.items() if count > 1]
    if twice:
        raise DataError(
            f"{path}: {len(twice)} {kind} ids are not unique: {_listed(twice)}. Each "
            "must occur once: files that were joined need new ids."
        )


def _listed(values: Iterable) -> str:
    values = list(map(str, values))
    return ", ".join(values[:_MAX_NAMED]) + ", ..." * (len(values) > _MAX_NAMED)


# === Categories ===


def _categories(path: str, entries: Sequence[dict]) -> tuple[Category, ...]:
    found = [_category(Entry(path, "category", entry)) for entry in entries]
    names = collections.Counter(category.name for category in found)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise DataError(f"{path}: categories have the same name: {_listed(twice)}.")
    if not found:
        raise DataError(f"{path}: `categories` is empty: no object has a class.")
    kinds = {category.keypoints for category in found if category.keypoints}
    if len(set(map(len, kinds))) > 1:
        raise DataError(
            f"{path}: all categories with keypoints must have the same number of them."
        )
    return tuple(sorted(found))


def _category(entry: Entry) -> Category:
    name = entry.get("name", str, "the name of the category")
    if not name.strip() or "\n" in name:
        raise entry.error("name", "a line of text")
    names, skeleton = [], []
    if "keypoints" in entry:
        names = entry.get("keypoints", list, _NAMES)
        if not all(isinstance(name, str) for name in names):
            raise entry.error("keypoints", _NAMES)
    if "skeleton" in entry:
        skeleton = entry.get("skeleton", list, "a list of pairs of numbers, from 1")
    for pair in skeleton:
        is_pair = isinstance(pair, list) and len(pair) == 2
        if not is_pair or not all(n in range(1, len(names) + 1) for n in pair):
            raise entry.error("skeleton", f"pairs of numbers from 1 to {len(names)}")
    pairs = tuple((a - 1, b - 1) for a, b in skeleton)
    return Category(entry.get("id", int, ""), name.strip(), tuple(names), pairs)


# === Images ===


def _images(path: str, folder: str, content: dict, categories) -> tuple:
    annotations = {entry["id"]: [] for entry in content["images"]}
    sizes = {e["id"]: _size(Entry(path, "image", e)) for e in content["images"]}
    by_id = {category.id: category for category in categories}
    num_keypoints = max(len(category.keypoints) for category in categories)
    for values in content["annotations"]:
        entry = Entry(path, "annotation", values)
        image = entry.get("image_id", int, "the id of an image")
        if image not in annotations:
            raise entry.error("image_id", "the id of an entry of `images`")
        if entry.get("category_id", int, "the id of a category") not in by_id:
            raise entry.error("category_id", "the id of an entry of `categories`")
        annotations[image].append(_annotation(entry, sizes[image], num_keypoints))
    return tuple(
        AnnotatedImage(
            values["id"],
            files.join(folder, _file_name(Entry(path, "image", values))),
            *sizes[values["id"]],
            tuple(annotations[values["id"]]),
        )
        for values in content["images"]
    )


def _file_name(entry: Entry) -> str:
    name = entry.get("file_name", str, "the name of its file")
    if not name or "\0" in name:
        raise entry.error("file_name", "the name of its file")
    return name


def _size(entry: Entry) -> tuple[int, int]:
    sides = []
    for key in ("height", "width"):
        what = "a positive number of pixels"
        side = entry.get(key, int, what)
        if not 1 <= side <= _MAX_SIDE:
            raise entry.error(key, what)
        sides.append(side)
    return tuple(sides)


def _annotation(entry: Entry, size: tuple[int, int], num_keypoints: int) -> Annotation:
    box = entry.numbers("bbox", 4, "four numbers: x, y, width, height")
    area = box[2] * box[3]
    if "area" in entry:
        area = entry.get("area", _NUMBER, "a number of pixels")
    keypoints, visible = None, 0
    if num_keypoints and "keypoints" in entry:
        what = f"{3 * num_keypoints} numbers: x, y and visibility of each keypoint"
        points = entry.numbers("keypoints", 3 * num_keypoints, what)
        keypoints = np.array(points, np.float32).reshape(num_keypoints, 3)
        visible = int((keypoints[:, 2] > 0).sum())
    return Annotation(
        entry.get("category_id", int, ""),
        tuple(map(float, box)),
        float(area),
        "iscrowd" in entry and bool(entry.get("iscrowd", int, "0 or 1")),
        _segmentation(entry.get("segmentation", object, ""), size)
        if "segmentation" in entry
        else None,
        keypoints,
        visible,
    )


def _segmentation(found, size: tuple[int, int]):
    """Polygons or an RLE that fit an image; None if they are invalid."""
    if isinstance(found, list) and found:
        polygons = [_polygon(values, size) for values in found]
        return [p for p in polygons if p is not None] or None
    if isinstance(found, dict):
        return _rle(found, size)
    return None


def _polygon(values, size: tuple[int, int]) -> np.ndarray | None:
    is_list = isinstance(values, list) and len(values) >= 6 and len(values) % 2 == 0
    if not is_list or not all(isinstance(value, _NUMBER) for value in values):
        return None
    # Drawing a polygon takes memory for its length.
    longest = 2 * max(size)
    polygon = np.array(values, np.float64)
    return polygon if (np.abs(polygon) <= longest).all() else None  # nor NaN


def _rle(found: dict, size: tuple[int, int]) -> dict | None:
    """The compressed RLE; None if its counts do not cover the image.

    pycocotools would write them beyond its memory.
    """
    text = found.get("counts")
    counts = _decompress(text) if isinstance(text, str) else text
    is_list = isinstance(counts, list) and all(
        isinstance(count, int) and count >= 0 for count in counts
    )
    fits = is_list and sum(counts) == size[0] * size[1]
    if not fits or found.get("size") != list(size):
        return None
    if isinstance(text, str):
        return {"size": list(size), "counts": text.encode()}
    return mask.frPyObjects({"size": list(size), "counts": counts}, *size)


def _decompress(text: str) -> list[int] | None:
    """The counts of a compressed RLE.

    Each is a number in digits of 5 bits, the lowest first; 32 is added to all digits
    but the last, and the last has the sign in its highest bit. From the fourth count
    on, the number is the difference to the count before the last.
    """
    counts, value, shift = [], 0, 0
    for digit in text.encode():
        digit -= 48
        if not 0 <= digit < 64:
            return None
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            value -= (digit & 16) << (shift - 4)
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return None if shift else counts
