"""The clips and windows that are cut from a video.

A plan is made before the video is opened. `frames(video_frames, frame_rate, times)`
then gives the frame numbers (clips, T), and `windows(height, width)` the parts cut from
every frame. A view is one window of one clip; views are numbered clip by clip:
view = clip * num_windows + window.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trainers.video_classification.data import sampling
from trainers.video_classification.data.protocols import (
    PROTOCOLS,
    PYSLOWFAST_FPS,
    scaled_size,
)

if TYPE_CHECKING:
    from trainers.video_classification.data.configs import ClipConfig, DataConfig


@dataclasses.dataclass(frozen=True)
class Window:
    """A square of `size`, `top` and `left` in a frame scaled to height x width.

    It ends with the frame: a square as large as the long side is the whole frame.
    """

    height: int
    width: int
    top: int
    left: int
    size: int
    flip: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the window itself."""
        rows, columns = self.height - self.top, self.width - self.left
        return min(self.size, rows), min(self.size, columns)


class ViewPlan(Protocol):
    """How the views of one video are cut.

    Attributes:
        num_clips: Number of clips.
        num_windows: Number of windows of each.
        needs_rate: `frames` needs the frame rate: clips are sampled by `fps`. Where
            frames are not evenly spaced, it also needs their times.
    """

    num_clips: int
    num_windows: int
    needs_rate: bool

    def frames(
        self,
        video_frames: int,
        frame_rate: float = 0.0,
        times: np.ndarray | None = None,
    ) -> np.ndarray: ...

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
        self.clip, self.size = clip, data.crop_size
        self.needs_rate = clip.fps is not None
        sides = data.min_short_side, data.max_short_side
        self.short_side = int(generator.integers(*sides, endpoint=True))
        self.position = generator.random(2)
        self.flip = bool(data.horizontal_flip and generator.random() < 0.5)
        self.generator = generator

    def frames(self, video_frames: int, frame_rate=0.0, times=None) -> np.ndarray:
        span = self.clip.num_frames, self.clip.stride_at(frame_rate), video_frames
        start = sampling.random_start(self.generator, *span)
        times = times if self.needs_rate else None
        return sampling.clip_frames(start, *span, times)[None]

    def windows(self, height: int, width: int) -> list[Window]:
        height, width = scaled_size(height, width, self.short_side)
        top, left = (
            int(u * (side - self.size + 1))
            for u, side in zip(self.position, (height, width), strict=True)
        )
        return [Window(height, width, top, left, self.size, self.flip)]


class TestViews:
    """All test views of a video, as `data.test_protocol` cuts them."""

    __test__ = False  # not a pytest class

    def __init__(self, data: DataConfig, clip: ClipConfig):
        self.protocol = PROTOCOLS[data.test_protocol]
        self.clip, self.needs_rate = clip, clip.fps is not None
        self.size, self.short_side = data.crop_size, data.min_short_side
        self.num_clips, self.num_windows = data.num_test_clips, data.num_test_crops

    def frames(self, video_frames: int, frame_rate=0.0, times=None) -> np.ndarray:
        if self.protocol.by_time:
            stride = self.clip.stride_at(PYSLOWFAST_FPS)
            options = {"frame_rate": frame_rate} if frame_rate else {}
        else:
            stride = self.clip.stride_at(frame_rate)
            options = {"times": times} if self.needs_rate else {}
        span = self.clip.num_frames, stride, video_frames
        return self.protocol.clips(self.num_clips, *span, **options)

    def windows(self, height: int, width: int) -> list[Window]:
        scaled = self.protocol.scaled_size(height, width, self.short_side)
        if self.protocol.whole_frame:
            return [Window(*scaled, 0, 0, max(scaled))]
        places = self.protocol.crops(*scaled, self.size, self.num_windows)
        return [Window(*scaled, y, x, self.size) for y, x in places]
