"""Sliding windows over long videos and live input, in memory that does not grow.

The frames of a window are cut as if they were a video of their own. A file and a live
input with the same frames give the same windows.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainers.core.failures import log_damage
from trainers.video_classification.data import watchdog
from trainers.video_classification.data.decoding import Frames, live_frames, stream
from trainers.video_classification.data.decoding.packet_index import timing
from trainers.video_classification.data.errors import VideoError
from trainers.video_classification.data.reading import (
    ClipFrames,
    FrameCutter,
    open_frames,
    plan_frames,
)
from trainers.video_classification.data.views import ViewPlan

if TYPE_CHECKING:
    from trainers.video_classification.data.configs import DataConfig

_ROUNDING = 1.1e-3  # seconds: MKV has times in milliseconds
_AT_ONCE = 8  # frames that the watchdog waits for


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a video.

    Attributes:
        start: In seconds after the first frame; None: it is the whole video.
        end: The same.
        views: uint8 (views, T, height, width, 3); None if they are lost.
        error: Why they are lost.
        fraction: Of the video, up to `end`.
    """

    start: float | None
    end: float | None
    views: np.ndarray | None
    error: str = ""
    fraction: float = 1.0


@dataclasses.dataclass(frozen=True)
class SlidingWindow:
    """Windows of `length` seconds that start every `step` seconds.

    Unless there are gaps between windows, every frame is in one: the last window ends
    with the video, so that it may start earlier.
    """

    length: float
    step: float

    def spans(self, last: float, duration: float) -> Iterator[tuple[float, float]]:
        """(start, end) of the windows of a video; none if it is too short.

        Args:
            last: When its last frame is shown.
            duration: When that ends.
        """
        number = 0
        while self.span(number)[1] <= duration + _ROUNDING:
            yield self.span(number)
            number += 1
        if self.adds_last(number, last):
            yield duration - self.length, duration

    def span(self, number: int) -> tuple[float, float]:
        """(start, end) of a window."""
        start = number * self.step
        return start, start + self.length

    def adds_last(self, number: int, last: float) -> bool:
        """Whether another window, at the end, follows the first `number` of them."""
        if not number or self.step > self.length:
            return False
        return self.span(number - 1)[1] - _ROUNDING <= last

    def check_duration(self, path: str, duration: float) -> None:
        """Raises `VideoError` for a video that is shorter than a window."""
        if duration + _ROUNDING < self.length:
            raise VideoError(
                path,
                f"lasts {duration:.3g} s, which is less than a window of "
                f"{self.length:g} s: give a shorter --window, or none",
            )


def frame_seconds(path: str, video: Frames) -> np.ndarray:
    """When each frame is shown, in seconds after the first; and the end of the last.

    Raises:
        VideoError: Neither times nor a frame rate are known.
    """
    if video.times is not None:
        seconds = np.asarray(video.times, float) / 1e6
        return np.append(seconds, 2 * seconds[-1] - seconds[-2])
    if not video.frame_rate:
        raise VideoError(
            path,
            "its frame rate is unknown, and windows are in seconds: set "
            "task.validation_data.frame_rate",
        )
    return np.arange(video.num_frames + 1) / video.frame_rate


class _Part(NamedTuple):
    """Some frames of a video, as a video of their own."""

    num_frames: int
    frame_rate: float
    times: np.ndarray | None


def read_windows(
    path: str, data: DataConfig, plan: ViewPlan, window: SlidingWindow
) -> Iterator[Segment]:
    """The windows of a video file or a folder of frames, each as soon as it is read.

    Args:
        path: The video.
        data: Its decoder, limits and frame rate.
        plan: The views to cut from each window.
        window: Where they are.

    Raises:
        VideoError: The video cannot be decoded, or is shorter than a window. A window
            in a damaged part of it is a `Segment` with an `error`.
    """
    found = watchdog.iterate(
        path, data.limits.seconds, _windows(path, data, plan, window), _AT_ONCE
    )
    for segments in found:
        yield from segments


def _windows(path, data, plan, window) -> Iterator[list[Segment]]:
    """The windows that end before each frame that is decoded."""
    limits = data.limits
    video = open_frames(path, data.decoder, limits=limits, frame_rate=data.frame_rate)
    seconds = frame_seconds(path, video)
    window.check_duration(path, float(seconds[-1]))
    wanted = np.zeros(video.num_frames, bool)
    for _, frames in _planned(path, video, seconds, plan, window):
        wanted[frames] = True
    coming = _planned(path, video, seconds, plan, window)
    cut, begun = FrameCutter(path, plan, limits), collections.deque()
    following = next(coming, None)
    for number, picture in stream(video, np.flatnonzero(wanted)):
        while following and following[1].min() <= number:
            begun.append((*following, ClipFrames(path, following[1])))
            following = next(coming, None)
        yield _finished(path, begun, number, seconds[-1])
        windows = cut(picture)
        for *_, clips in begun:
            clips.add(number, windows, picture.is_damaged)
    while following:  # all of whose frames are lost
        begun.append((*following, ClipFrames(path, following[1])))
        following = next(coming, None)
    yield _finished(path, begun, video.num_frames, seconds[-1])


def _planned(path, video, seconds, plan, window):
    """Yields ((start, end), frame numbers) for each window that has frames."""
    for start, end in window.spans(*map(float, seconds[-2:])):
        first, last = np.searchsorted(
            seconds[:-1], [start - _ROUNDING, end - _ROUNDING]
        )
        if first < last:
            rate, times = video.frame_rate, None
            if video.times is not None:
                rate, times = timing(video.times[first:last], rate)
            part = _Part(int(last - first), rate, times)
            yield (start, end), first + plan_frames(path, part, plan)


def _finished(path, begun, number, duration) -> list[Segment]:
    """Removes the windows that end before a frame."""
    found = []
    while begun and begun[0][1].max() < number:
        span, _, clips = begun.popleft()
        found.append(_segment(path, span, clips, min(span[1] / duration, 1.0)))
    return found


def _segment(path, span, clips, fraction=1.0) -> Segment:
    try:
        return Segment(*span, clips.views(log_damage), fraction=fraction)
    except VideoError as error:
        return Segment(*span, None, error.reason, fraction)


def live_windows(
    path: str, data: DataConfig, plan: ViewPlan, window: SlidingWindow
) -> Iterator[Segment]:
    """The windows of a live input, each as soon as its last frame has come.

    The frames of one window, cut, are in memory.

    Args:
        path: See `live.is_live`.
        data: See `read_windows`.
        plan: See there.
        window: See there.

    Raises:
        VideoError: It cannot be reached, or it ends before the first window does.
    """
    cut, recent = FrameCutter(path, plan, data.limits), _Recent(path, plan)
    number = 0
    for seconds, rate, picture in live_frames(path, data.limits, data.frame_rate):
        while seconds >= window.span(number)[1] - _ROUNDING:
            yield from recent.segment(window.span(number))
            number += 1
            recent.forget(min(window.span(number)[0], seconds - window.length))
            if not recent.frames:  # none came for longer than a window
                number = max(number, int((seconds - window.length) // window.step))
        recent.add(_LiveFrame(seconds, rate, cut(picture), picture.is_damaged))
        recent.forget(min(window.span(number)[0], seconds - window.length))
    window.check_duration(path, recent.duration)
    start, end = window.span(number)
    if end <= recent.duration + _ROUNDING:
        yield from recent.segment((start, end))
        number += 1
    if window.adds_last(number, recent.last):
        yield from recent.segment((recent.duration - window.length, recent.duration))


class _LiveFrame(NamedTuple):
    seconds: float
    rate: float
    windows: np.ndarray
    is_damaged: bool


class _Recent:
    """The last frames of a live input.

    Attributes:
        frames: Of the present window, and as many before as one has.
        last: When the last frame was shown.
        duration: When it ends.
    """

    def __init__(self, path: str, plan: ViewPlan):
        self._path, self._plan = path, plan
        self.frames, self.last, self.duration = collections.deque(), 0.0, 0.0

    def add(self, frame: _LiveFrame) -> None:
        interval = frame.seconds - self.last or 1 / (frame.rate or 1)
        self.last, self.duration = frame.seconds, frame.seconds + interval
        self.frames.append(frame)

    def forget(self, time: float) -> None:
        """Removes the frames before a time."""
        while self.frames and self.frames[0].seconds < time - 2 * _ROUNDING:
            self.frames.popleft()

    def segment(self, span: tuple[float, float]) -> Iterator[Segment]:
        """The window at (start, end), if it has frames."""
        start, end = (edge - _ROUNDING for edge in span)
        found = [frame for frame in self.frames if start <= frame.seconds < end]
        if not found:
            return
        microseconds = np.array([frame.seconds * 1e6 for frame in found])
        part = _Part(len(found), *timing(microseconds, found[0].rate))
        numbers = plan_frames(self._path, part, self._plan)
        clips = ClipFrames(self._path, numbers)
        for number in np.unique(numbers):
            clips.add(number, found[number].windows, found[number].is_damaged)
        yield _segment(self._path, span, clips)
