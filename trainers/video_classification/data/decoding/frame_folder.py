"""Folders of extracted frames: `img_00001.jpg`, `frame000001.png`, `00001.jpg`, ...

The frames of a video are the images whose names are the same but for a number. This is
the place of a frame in time: a number without an image is a frame that is lost.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator

import numpy as np

from trainers.core import files
from trainers.video_classification.data import paths, watchdog
from trainers.video_classification.data.cropping import ArrayPicture
from trainers.video_classification.data.errors import VideoError
from trainers.video_classification.data.images import decode_image, image_size
from trainers.video_classification.data.limits import DEFAULT_LIMITS, Limits, too_much

_NAME = re.compile(r"(?!\.)(.*?)([0-9]+)\.(?:jpe?g|png)", re.IGNORECASE)
_MIN_PRESENT = 0.5  # of the frames
_MAX_NAMED = 5


def has_frames(folder: str) -> bool:
    """Whether an image with a number is in a folder."""
    if files.is_remote(folder):
        return any(map(_NAME.fullmatch, files.listdir(folder)))
    with files.errors(folder, "cannot be listed"), os.scandir(folder) as found:
        return any(_NAME.fullmatch(entry.name) for entry in found)


class FolderFrames:
    """The frames of a folder, each read when it is needed.

    If their number is not stated, the first has the lowest number, and numbers that are
    a step apart (0, 5, 10, ...) are those of consecutive frames. If it is, frames are
    numbered from 1, or from 0 if there is an image of that number.

    Args:
        path: See `paths.FrameFolder`.
        limits: Of the number of frames, and of their bytes and pixels.

    Attributes:
        problem: What is wrong with the number of frames; may be empty.

    Raises:
        VideoError: No frames, more than half of them missing, two of a number, images
            of several videos, or above a limit.
    """

    frame_rate, times = 0.0, None

    def __init__(self, path: str, limits: Limits = DEFAULT_LIMITS):
        self.path, self._limits = path, limits
        self._folder, skipped, stated = paths.FrameFolder.parse(path)
        numbered = _numbered(path, _names(path, self._folder))
        numbers = sorted(numbered)
        if stated:
            first, step = min(numbers[0], 1) + (skipped or 0), 1
            self.num_frames = stated
        else:
            first, step = numbers[0], max(math.gcd(*np.diff(numbers).tolist()), 1)
            self.num_frames = (numbers[-1] - first) // step + 1
        self._names = {
            (number - first) // step: name
            for number, name in numbered.items()
            if 0 <= number - first < self.num_frames * step
        }
        present = len(self._names)
        self.problem = ""
        if present < self.num_frames:
            self.problem = (
                f"has {present} of {self.num_frames} frames; its images are numbered "
                f"{numbers[0]} to {numbers[-1]}"
            )
        elif stated and skipped is None and len(numbers) > stated:
            self.problem = f"has {len(numbers)} frames, its list states {stated}"
        if present < _MIN_PRESENT * self.num_frames:
            raise VideoError(path, self.problem)
        if self.num_frames > limits.frames:
            found = f"has {self.num_frames} frames"
            raise too_much(path, found, "frames", limits.frames)

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, ArrayPicture]]:
        for number in map(int, wanted):
            watchdog.check()
            image = self._image(self._names.get(number))
            if image is not None:
                yield number, ArrayPicture(image)

    def _image(self, name: str | None) -> np.ndarray | None:
        """RGB pixels of a frame; None if it is lost."""
        content = self._content(name) if name else b""
        size = image_size(content)
        if size is None:
            return None
        if math.prod(size) > self._limits.pixels:
            found = f"{name} has {size[1]} x {size[0]} pixels"
            raise too_much(self.path, found, "pixels", self._limits.pixels)
        return decode_image(content)

    def _content(self, name: str) -> bytes:
        path = files.join(self._folder, name)
        try:
            num_bytes = files.state(path)[1]
            if not files.is_remote(path) and not os.path.isfile(path):
                raise VideoError(self.path, f"{name} is not a regular file")
            if num_bytes > self._limits.bytes:
                found = f"{name} has {num_bytes} bytes"
                raise too_much(self.path, found, "bytes", self._limits.bytes)
            return files.read_bytes(path)
        except files.FileError as error:
            raise VideoError(self.path, f"{name}: {error.reason}") from error


def _names(path: str, folder: str) -> list[str]:
    try:
        if files.is_folder(folder):
            return files.listdir(folder)
    except files.FileError as error:
        raise VideoError(path, error.reason) from error
    raise VideoError(path, "no such folder")


def _numbered(path: str, names: Iterable[str]) -> dict[int, str]:
    """Name of the image of each number.

    Images of optical flow beside those of a video (`flow_x_00001.jpg`) are left out.
    """
    videos: dict[str, dict[int, str]] = {}
    for name in sorted(names):
        if match := _NAME.fullmatch(name):
            images, number = videos.setdefault(match[1], {}), int(match[2])
            if number in images:
                twice = f"{images[number]} and {name}"
                raise VideoError(path, f"has two images of frame {number}: {twice}")
            images[number] = name
    found = {key: v for key, v in videos.items() if not key.startswith("flow_")}
    if not found:
        raise VideoError(path, "has no frames (images with a number: img_00001.jpg)")
    if len(found) > 1:
        first = [next(iter(images.values())) for images in found.values()]
        listed = ", ".join(first[:_MAX_NAMED]) + ", ..." * (len(first) > _MAX_NAMED)
        raise VideoError(
            path, f"has images of {len(found)} names, expected one video: {listed}"
        )
    return next(iter(found.values()))
