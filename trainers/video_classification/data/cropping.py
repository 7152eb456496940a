"""Cuts windows out of a decoded frame, scaling as few pixels as possible."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from trainers.video_classification.data.views import Window

cv2.setNumThreads(1)  # clips are cut in parallel already

ERRORS = cv2.error, MemoryError  # for frames of impossible sizes
_SPARSE = 32  # times the pixels of the windows: more is not scaled for them
_ALL = slice(None)
_FEW = 2  # pixels of a mean, along a side, up to which float32 is faster
_MARGIN = 8  # pixels around a window in which a piece may begin and end


class Picture(Protocol):
    """A decoded frame, not yet converted to RGB.

    Attributes:
        size: (height, width), after rotation.
        is_damaged: Whether the decoder concealed errors in it.
    """

    size: tuple[int, int]
    is_damaged: bool

    def rgb(self, rows: slice = ..., columns: slice = ...) -> np.ndarray:
        """uint8 (rows, columns, 3); by default the whole frame."""


@dataclasses.dataclass
class ArrayPicture:
    """A frame of RGB pixels: uint8 (height, width, 3)."""

    image: np.ndarray
    is_damaged: bool = False

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[:2]

    def rgb(self, rows: slice = _ALL, columns: slice = _ALL) -> np.ndarray:
        return self.image[rows, columns]


def scale(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scales an image: by means over areas if it shrinks, bilinear if it grows.

    Means over areas keep the mean of the image; libswscale does not.
    """
    if image.shape[:2] == (height, width):
        return image
    if height >= image.shape[0]:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    if image.shape[0] > _FEW * height:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    # Summed and rounded as for integers, and faster.
    image = image.astype(np.float32)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.convertScaleAbs(image)


def cut_windows(picture: Picture, windows: Sequence[Window], views: np.ndarray) -> None:
    """Writes the pixels of each window to `views`, uint8 (windows, height, width, 3).

    One piece that contains all windows is cut and scaled; the windows are cut from it.
    In very long frames the windows are so far apart that each gets a piece of its own.
    """
    top, bottom = _range(windows, "top", 0)
    left, right = _range(windows, "left", 1)
    if (bottom - top) * (right - left) > _SPARSE * views[..., 0].size:
        picture = ArrayPicture(picture.rgb())  # converted once for all of them
        for window, view in zip(windows, views, strict=True):
            _cut_piece(picture, [window], [view])
    else:
        _cut_piece(picture, windows, views)


def _range(windows: Sequence[Window], start: str, axis: int) -> tuple[int, int]:
    """Where the first of all windows starts along an axis, and the last one ends."""
    starts = [getattr(window, start) for window in windows]
    return min(starts), max(starts) + windows[0].shape[axis]


def _cut_piece(
    picture: Picture, windows: Sequence[Window], views: Sequence[np.ndarray]
) -> None:
    rows, columns = (
        _span(
            *_range(windows, start, axis),
            getattr(windows[0], side),
            picture.size[axis],
        )
        for axis, (start, side) in enumerate((("top", "height"), ("left", "width")))
    )
    image = picture.rgb(rows.pixels, columns.pixels)
    piece = scale(image, rows.length, columns.length)
    for window, view in zip(windows, views, strict=True):
        top, left = window.top - rows.start, window.left - columns.start
        height, width = window.shape
        part = piece[top : top + height, left : left + width]
        view[:] = cv2.flip(part, 1) if window.flip else part


class _Span(NamedTuple):
    """`pixels` of an image side become `length` scaled ones, beginning at `start`."""

    pixels: slice
    start: int
    length: int


@functools.lru_cache(maxsize=256)
def _span(start: int, stop: int, scaled: int, size: int) -> _Span:
    """The pixels to scale for the range `start` to `stop` of a side of `scaled`.

    The range is extended a little, so that it begins and ends near whole pixels of
    the original `size`: the scaled piece is then hardly shifted.
    """

    def shift(edge):
        return min(edge * size % scaled, -edge * size % scaled)

    margin = max(_MARGIN, math.ceil(scaled / size))
    start = min(range(start, max(start - margin, 0) - 1, -1), key=shift)
    stop = min(range(stop, min(stop + margin, scaled) + 1), key=shift)
    first, last = (round(edge * size / scaled) for edge in (start, stop))
    return _Span(slice(first, max(last, first + 1)), start, stop - start)
