"""COCO TFRecords as the Model Garden writes them (`create_coco_tf_record.py`).

The keys are those of `official.vision.dataloaders.tf_example_decoder`. Records have
boxes, masks (PNG) and areas, but no keypoints.
"""

from __future__ import annotations

import io

import numpy as np
import tensorflow as tf
from PIL import Image
from pycocotools import mask

from trainers.core import files
from trainers.core.tfrecord_file import TFRecordFile
from trainers.detection.data.coco import AnnotatedImage, Annotation
from trainers.detection.data.images import ImageError

SUFFIXES = (".tfrecord", ".tfrecords")


def find_shards(path: str) -> list[str]:
    """The shards in a folder, or that a glob matches; empty if `path` is neither."""
    if any(character in path for character in "*?["):
        return sorted(files.glob(path))
    if files.is_folder(path):
        names = sorted(name for name in files.listdir(path) if _is_shard(name))
        return [files.join(path, name) for name in names]
    return [path] if _is_shard(path) and files.is_file(path) else []


def _is_shard(name: str) -> bool:
    return name.endswith(SUFFIXES) or ".tfrecord-" in name  # as in a.tfrecord-0-of-8


def is_record(path: str) -> bool:
    """Whether a path is `shard#offset`."""
    shard, _, offset = path.rpartition("#")
    return _is_shard(shard) and offset.isdigit()


def list_records(shards: list[str]) -> list[str]:
    """`shard#offset` of every record, in order.

    Raises:
        ImageError: A shard is damaged.
    """
    return [
        f"{shard}#{offset}"
        for shard in shards
        for offset, _ in TFRecordFile(shard, ImageError).offsets()
    ]


def read_record(path: str) -> tuple[AnnotatedImage, bytes]:
    """Reads the image at `shard#offset`: its annotations and its file.

    Raises:
        ImageError: The record is damaged, or has no image.
    """
    shard, _, offset = path.rpartition("#")
    try:
        payload = TFRecordFile(shard, ImageError).payload(int(offset))
        features = _Features(path, tf.train.Example.FromString(payload))
    except ImageError:
        raise
    except Exception as error:  # protobuf's DecodeError
        raise ImageError(path, f"is no tf.train.Example ({error}).") from error
    return features.image(), features.bytes("image/encoded")[0]


class _Features:
    """The values of an Example."""

    def __init__(self, path: str, example: tf.train.Example):
        self._path, self._features = path, example.features.feature

    def floats(self, key: str) -> np.ndarray:
        return np.array(self._features[key].float_list.value, np.float64)

    def integers(self, key: str) -> np.ndarray:
        return np.array(self._features[key].int64_list.value, np.int64)

    def bytes(self, key: str) -> list[bytes]:
        return list(self._features[key].bytes_list.value)

    def image(self) -> AnnotatedImage:
        sides = [self.integers(f"image/{name}") for name in ("height", "width")]
        if not self.bytes("image/encoded") or not all(map(len, sides)):
            raise ImageError(
                self._path,
                "has no image/encoded, image/height or image/width: it is no record "
                "of the Model Garden's create_coco_tf_record.py.",
            )
        height, width = (int(side[0]) for side in sides)
        return AnnotatedImage(
            self._image_id(),
            self._path,
            height,
            width,
            self._annotations(height, width),
        )

    def _image_id(self) -> int:
        name = (self.bytes("image/source_id") or [b""])[0].decode(errors="replace")
        try:
            return int(name)
        except ValueError as error:
            found = f"its image/source_id is {name!r}; expected the id of an image."
            raise ImageError(self._path, found) from error

    def _annotations(self, height: int, width: int) -> tuple[Annotation, ...]:
        sides = ("xmin", "ymin", "xmax", "ymax")
        corners = [self.floats(f"image/object/bbox/{side}") for side in sides]
        labels = self.integers("image/object/class/label")
        crowds = self.integers("image/object/is_crowd")
        areas, masks = self.floats("image/object/area"), self.bytes("image/object/mask")
        count = len(labels)
        if {len(values) for values in corners} != {count}:
            raise ImageError(self._path, "has another number of boxes than of labels.")
        x1, y1, x2, y2 = np.stack(corners) * [[width], [height], [width], [height]]
        boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=-1)
        areas = areas if len(areas) == count else boxes[:, 2] * boxes[:, 3]
        return tuple(
            Annotation(
                int(labels[i]),
                tuple(boxes[i].tolist()),
                float(areas[i]),
                bool(len(crowds) == count and crowds[i]),
                self._rle(masks[i]) if len(masks) == count else None,
            )
            for i in range(count)
        )

    def _rle(self, png: bytes) -> dict:
        try:
            with Image.open(io.BytesIO(png)) as image:
                bitmap = np.asarray(image.convert("L")) > 0
        except (OSError, SyntaxError, ValueError) as error:
            found = f"a mask cannot be decoded ({error})."
            raise ImageError(self._path, found) from error
        return mask.encode(np.asfortranarray(bitmap, np.uint8))
