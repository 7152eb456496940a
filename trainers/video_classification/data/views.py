"""The clips and windows that are cut from a video.

A plan is made before the video is opened. `frames(video_frames)` then gives the
frame numbers (clips, T), and `windows(height, width)` the squares cut from every
frame. A view is one window of one clip; views are numbered clip by clip:
view = clip * num_windows + window.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trainers.video_classification.data import sampling

if TYPE_CHECKING:
    from trainers.video_classification.data.configs import ClipConfig, DataConfig


@dataclasses.dataclass(frozen=True)
class Window:
    """A square of `size`, `top` and `left` in a frame scaled to height x width."""

    height: int
    width: int
    top: int
    left: int
    size: int
    flip: bool = False


class ViewPlan(Protocol):
    """How the views of one video are cut."""

    num_clips: int
    num_windows: int
    num_frames: int
    size: int

    def frames(self, video_frames: int) -> np.ndarray: ...

    def windows(self, height: int, width: int) -> list[Window]: ...


class RandomView:
    """One training view: random start, short side, position and flip.

    Args:
        generator: Source of all randomness, used in a fixed order, whatever the
            video's length and size.
    """

    num_clips = num_windows = 1

    def __init__(
        self, data: DataConfig, clip: ClipConfig, generator: np.random.Generator
    ):
        self.num_frames, self.stride = clip.num_frames, clip.temporal_stride
        self.size = data.crop_size
        sides = data.min_short_side, data.max_short_side
        self.short_side = int(generator.integers(*sides, endpoint=True))
        self.position = generator.random(2)
        self.flip = bool(data.horizontal_flip and generator.random() < 0.5)
        self.generator = generator

    def frames(self, video_frames: int) -> np.ndarray:
        span = self.num_frames, self.stride, video_frames
        start = sampling.random_start(self.generator, *span)
        return sampling.clip_frames(start, *span)[None]

    def windows(self, height: int, width: int) -> list[Window]:
        height, width = scaled_size(height, width, self.short_side)
        top, left = (
            int(u * (side - self.size + 1))
            for u, side in zip(self.position, (height, width), strict=True)
        )
        return [Window(height, width, top, left, self.size, self.flip)]


class TestViews:
    """All test views: clips spread over time, crops along the long side."""

    __test__ = False  # not a pytest class

    def __init__(self, data: DataConfig, clip: ClipConfig):
        self.num_frames, self.stride = clip.num_frames, clip.temporal_stride
        self.size, self.short_side = data.crop_size, data.min_short_side
        self.num_clips, self.num_windows = data.num_test_clips, data.num_test_crops

    def frames(self, video_frames: int) -> np.ndarray:
        span = self.num_frames, self.stride, video_frames
        starts = sampling.spread_starts(self.num_clips, *span)
        return np.stack([sampling.clip_frames(start, *span) for start in starts])

    def windows(self, height: int, width: int) -> list[Window]:
        height, width = scaled_size(height, width, self.short_side)
        room = height - self.size, width - self.size
        if self.num_windows == 1:
            places = [(room[0] // 2, room[1] // 2)]
        elif width >= height:
            places = [(room[0] // 2, x) for x in (0, room[1] // 2, room[1])]
        else:
            places = [(y, room[1] // 2) for y in (0, room[0] // 2, room[0])]
        return [Window(height, width, y, x, self.size) for y, x in places]


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) after scaling the shorter of the two to `short_side`."""
    if height <= width:
        return short_side, max(short_side, round(width * short_side / height))
    return max(short_side, round(height * short_side / width)), short_side
