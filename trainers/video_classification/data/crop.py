"""Cutting windows out of a decoded frame, scaling as few pixels as possible."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from trainers.video_classification.data.views import Window

cv2.setNumThreads(1)  # clips are cut side by side already

_ROOM = 8  # pixels around a window among which whole source pixels are sought


class Picture(Protocol):
    """A decoded frame, not yet converted.

    Attributes:
        size: (height, width), as shown.
        is_damaged: The decoder had to make up some of its pixels.
    """

    size: tuple[int, int]
    is_damaged: bool

    def rgb(self) -> np.ndarray:
        """uint8 (height, width, 3)."""


@dataclasses.dataclass
class ArrayPicture:
    """A frame that is RGB pixels already: uint8 (height, width, 3)."""

    image: np.ndarray
    is_damaged: bool = False

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[:2]

    def rgb(self) -> np.ndarray:
        return self.image


def scale(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Antialiased where it shrinks, bilinear where it grows.

    Means over areas keep the mean of the image, which libswscale's do not.
    """
    if image.shape[:2] == (height, width):
        return image
    shrinks = height < image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def cut_windows(picture: Picture, windows: Sequence[Window], views: np.ndarray) -> None:
    """Puts the pixels of each window into `views`, uint8 (windows, size, size, 3).

    What surrounds all windows is cut first, and that piece is scaled.
    """
    image = picture.rgb()
    rows, columns = (
        _span(
            min(getattr(w, start) for w in windows),
            max(getattr(w, start) + w.size for w in windows),
            getattr(windows[0], side),
            image.shape[axis],
        )
        for axis, (start, side) in enumerate((("top", "height"), ("left", "width")))
    )
    piece = scale(image[rows.source, columns.source], rows.length, columns.length)
    for window, view in zip(windows, views, strict=True):
        top, left = window.top - rows.start, window.left - columns.start
        square = piece[top : top + window.size, left : left + window.size]
        view[:] = cv2.flip(square, 1) if window.flip else square


class _Span(NamedTuple):
    """Pixels `source` of a side become `length` of the scaled one, from `start`."""

    source: slice
    start: int
    length: int


@functools.lru_cache(maxsize=256)
def _span(start: int, stop: int, scaled: int, size: int) -> _Span:
    """What to scale for the pixels from `start` to `stop` of a side of `scaled`.

    A little more than them, so that it begins and ends near whole pixels of the
    source's `size`: what it is scaled to is then hardly shifted.
    """

    def shift(edge):
        return min(edge * size % scaled, -edge * size % scaled)

    room = max(_ROOM, math.ceil(scaled / size))
    start = min(range(start, max(start - room, 0) - 1, -1), key=shift)
    stop = min(range(stop, min(stop + room, scaled) + 1), key=shift)
    first, last = (round(edge * size / scaled) for edge in (start, stop))
    return _Span(slice(first, max(last, first + 1)), start, stop - start)
