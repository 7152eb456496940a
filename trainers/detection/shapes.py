"""Generated images with COCO annotations, for the demo and the tests.

`shapes`: one to four circles, squares and triangles. Triangles have three keypoints.

`keys`: white squares at one end of a wide image are of the class `red` or `blue`: the
colour of the disc at the other end, which nothing annotates. Nothing within 100 pixels
of a square depends on its class.
"""

from __future__ import annotations

import colorsys
import io
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from trainers.core import files

SHAPES = ("circle", "square", "triangle")
KEYS = {"red": (220, 40, 40), "blue": (40, 40, 220)}
KEYPOINTS = ("top", "left_base", "right_base")
TASKS = ("shapes", "keys")

_SIZES = {"shapes": (128, 128), "keys": (96, 192)}  # (height, width)
_SMOOTH = 4  # shapes are drawn at so many times their size
_TRIES = 50


class Shape(NamedTuple):
    """A shape in an image: its name, outline (n, 2) of x and y, and colour."""

    name: str
    outline: np.ndarray
    color: tuple[int, int, int]

    @property
    def box(self) -> np.ndarray:
        """x1, y1, x2, y2."""
        return np.concatenate([self.outline.min(0), self.outline.max(0)])


def write_images(folder: str, count: int, task: str = "shapes", seed: int = 0) -> None:
    """Writes `images/`, `instances.json`, and for shapes also `keypoints.json`.

    An image depends on (task, seed, its number) alone.

    Args:
        folder: Where to; existing files are replaced.
        count: Number of images.
        task: `shapes` or `keys`.
        seed: Any integer that is not negative.

    Example:
    >>> write_images("shapes/train", 4)
    """
    pictures, annotations = [], []
    for number in range(count):
        pixels, shapes = make_image(number, task, seed)
        name = f"{number:05d}.jpg"
        files.write_bytes(files.join(folder, "images", name), _jpeg(pixels), False)
        height, width = pixels.shape[:2]
        picture = {"id": number, "file_name": name, "height": height, "width": width}
        pictures.append(picture)
        annotations += [_annotation(number, shape) for shape in shapes]
    instances = _coco(pictures, annotations, SHAPES if task == "shapes" else KEYS)
    files.write_json(files.join(folder, "instances.json"), instances)
    if task == "shapes":
        keypoints = _triangles(instances)
        files.write_json(files.join(folder, "keypoints.json"), keypoints)


def make_image(
    number: int, task: str = "shapes", seed: int = 0
) -> tuple[np.ndarray, list[Shape]]:
    """An image, uint8 (height, width, 3), and the shapes to find in it."""
    random = np.random.default_rng([TASKS.index(task), seed, number])
    size = _SIZES[task]
    make = _random_shapes if task == "shapes" else _squares_and_key
    shapes, others = make(random, size)
    return _draw(random, size, [*shapes, *others]), shapes


# === What is in an image ===


def _random_shapes(random: np.random.Generator, size):
    shapes = []
    for _ in range(random.integers(1, 5)):
        name = SHAPES[random.integers(3)]
        color = _vivid(random)
        radius = random.uniform(10, 22)
        outline = _outline(random, name, radius)
        place = _free_place(random, size, radius + 2, [s.box for s in shapes])
        if place is not None:
            shapes.append(Shape(name, outline + place, color))
    return shapes, []


def _squares_and_key(random: np.random.Generator, size):
    name = list(KEYS)[random.integers(2)]
    height, width = size
    shapes = []
    for _ in range(random.integers(1, 4)):
        radius = random.uniform(8, 13)
        area = height, 2 * 14
        place = _free_place(random, area, radius + 1, [s.box for s in shapes])
        if place is not None:
            outline = _polygon(4, radius, math.pi / 4) + place
            shapes.append(Shape(name, outline, (235, 235, 235)))
    center = width - 22, random.uniform(22, height - 22)
    key = Shape("key", _polygon(32, 20) + center, KEYS[name])
    if random.random() < 0.5:
        shapes, key = [_mirrored(s, width) for s in shapes], _mirrored(key, width)
    return shapes, [key]


def _mirrored(shape: Shape, width: int) -> Shape:
    return shape._replace(outline=shape.outline * [-1, 1] + [width, 0])


def _outline(random: np.random.Generator, name: str, radius: float) -> np.ndarray:
    """(n, 2) around (0, 0); of a triangle in the order of `KEYPOINTS`."""
    turn = random.uniform(-0.4, 0.4)
    if name == "circle":
        return _polygon(32, radius)
    if name == "square":
        return _polygon(4, radius, math.pi / 4 + turn)
    # Two equal sides: the top can be told from the base.
    angles = np.radians([-90, 130, 50]) + turn
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _polygon(corners: int, radius: float, turn: float = 0.0) -> np.ndarray:
    angles = np.arange(corners) * 2 * math.pi / corners + turn
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _free_place(random: np.random.Generator, size, radius: float, boxes):
    """A centre whose square of 2 `radius` touches no box, or None."""
    height, width = size
    for _ in range(_TRIES):
        place = random.uniform(radius, np.array([width, height]) - radius)
        low, high = place - radius, place + radius
        if all((high <= box[:2]).any() or (low >= box[2:]).any() for box in boxes):
            return place
    return None


def _vivid(random: np.random.Generator) -> tuple[int, int, int]:
    hue = colorsys.hsv_to_rgb(random.random(), 0.7, random.uniform(0.6, 1))
    return tuple(int(255 * value) for value in hue)


def _draw(random: np.random.Generator, size, shapes) -> np.ndarray:
    """Smooth shapes on noisy grey."""
    height, width = size
    noise = random.integers(70, 130, (height, width, 1), np.uint8)
    large = Image.fromarray(np.repeat(noise, 3, axis=-1))
    large = large.resize((_SMOOTH * width, _SMOOTH * height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(large)
    for shape in shapes:
        points = [tuple(point) for point in (_SMOOTH * shape.outline).tolist()]
        pen.polygon(points, fill=shape.color)
    return np.array(large.reduce(_SMOOTH))


def _jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()


# === COCO's format ===


def _annotation(image_id: int, shape: Shape) -> dict:
    x1, y1, x2, y2 = shape.box.tolist()
    x, y = shape.outline.T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    found = {
        "image_id": image_id,
        "category_id": shape.name,  # `_coco` puts its number here
        "bbox": _rounded([x1, y1, x2 - x1, y2 - y1]),
        "area": round(float(area), 2),
        "segmentation": [_rounded(shape.outline.ravel())],
        "iscrowd": 0,
    }
    if shape.name == "triangle":
        points = [[x, y, 2] for x, y in shape.outline.tolist()]
        found |= {"keypoints": _rounded(np.ravel(points)), "num_keypoints": 3}
    return found


def _rounded(values) -> list[float]:
    return [round(float(value), 2) for value in values]


def _coco(pictures, annotations, names) -> dict:
    numbers = {name: number for number, name in enumerate(names, 1)}
    return {
        "images": pictures,
        "annotations": [
            {**found, "id": number, "category_id": numbers[found["category_id"]]}
            for number, found in enumerate(annotations, 1)
        ],
        "categories": [{"id": n, "name": name} for name, n in numbers.items()],
    }


def _triangles(instances: dict) -> dict:
    """The triangles with their keypoints, as COCO has people in a file of their own."""
    number = SHAPES.index("triangle") + 1
    category = {
        "id": number,
        "name": "triangle",
        "keypoints": list(KEYPOINTS),
        "skeleton": [[1, 2], [2, 3], [3, 1]],
    }
    kept = [a for a in instances["annotations"] if a["category_id"] == number]
    return {**instances, "annotations": kept, "categories": [category]}
