"""Cutting windows out of a decoded frame, scaling as few pixels as possible."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from trainers.video_classification.data.views import Window

cv2.setNumThreads(1)  # clips are cut side by side already


class Picture(Protocol):
    """A decoded frame, not yet converted.

    Attributes:
        size: (height, width), as shown.
        is_damaged: The decoder had to make up some of its pixels.
    """

    size: tuple[int, int]
    is_damaged: bool

    def rgb(self, height: int, width: int) -> np.ndarray:
        """uint8 (height, width, 3), antialiased where that is smaller."""


@dataclasses.dataclass
class ArrayPicture:
    """A frame that is RGB pixels already: uint8 (height, width, 3)."""

    image: np.ndarray
    is_damaged: bool = False

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[:2]

    def rgb(self, height: int, width: int) -> np.ndarray:
        """Antialiased where it shrinks, bilinear where it grows."""
        if self.size == (height, width):
            return self.image
        shrinks = height < self.size[0]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return cv2.resize(self.image, (width, height), interpolation=method)


def cut_windows(picture: Picture, windows: Sequence[Window], views: np.ndarray) -> None:
    """Puts the pixels of each window into `views`, uint8 (windows, size, size, 3).

    Where the frame shrinks it is scaled while it is converted, antialiased, and
    then cut; where it grows it is cut first, to the nearest whole pixel, and
    the piece is scaled bilinearly.
    """
    height, width = windows[0].height, windows[0].width
    grows = height > picture.size[0]
    image = picture.rgb(*picture.size) if grows else picture.rgb(height, width)
    cut = _enlarged_square if grows else _square
    for window, view in zip(windows, views, strict=True):
        piece = cut(image, window)
        view[:] = cv2.flip(piece, 1) if window.flip else piece


def _square(image: np.ndarray, window: Window) -> np.ndarray:
    top, left, size = window.top, window.left, window.size
    return image[top : top + size, left : left + size]


def _enlarged_square(image: np.ndarray, window: Window) -> np.ndarray:
    ratio = image.shape[0] / window.height, image.shape[1] / window.width
    top, left = round(window.top * ratio[0]), round(window.left * ratio[1])
    bottom = round((window.top + window.size) * ratio[0])
    right = round((window.left + window.size) * ratio[1])
    piece = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    return ArrayPicture(piece).rgb(window.size, window.size)
