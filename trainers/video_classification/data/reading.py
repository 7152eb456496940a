"""Opens videos, and cuts views from their frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainers.core.failures import log_damage
from trainers.video_classification.data import cropping, paths, watchdog
from trainers.video_classification.data.cropping import Picture, cut_windows
from trainers.video_classification.data.decoding import (
    Frames,
    check_decoder,
    open_video,
    video_errors,
)
from trainers.video_classification.data.decoding.frame_folder import FolderFrames
from trainers.video_classification.data.errors import VideoError
from trainers.video_classification.data.limits import (
    DEFAULT_LIMITS,
    Limits,
    too_much,
)
from trainers.video_classification.data.tfrecords.records import RecordFrames
from trainers.video_classification.data.views import TestViews, ViewPlan

if TYPE_CHECKING:
    from trainers.video_classification.data.configs import ClipConfig, DataConfig
    from trainers.video_classification.data.tfrecords.frame_cache import FrameCache

_MIN_DECODED = 0.5  # of a clip's frames; lost ones are replaced by their neighbours


class Views(NamedTuple):
    """The views of a video: what was cut, and from where.

    Attributes:
        pixels: uint8 (views, T, height, width, 3).
        frames: Frame numbers, (clips, T).
        frame_rate: Of the video; 0 if unknown.
    """

    pixels: np.ndarray
    frames: np.ndarray
    frame_rate: float


def read_views(
    path: str, data: DataConfig, clip: ClipConfig, plan: ViewPlan | None = None
) -> np.ndarray:
    """The test views of one video: uint8 (views, T, H, W, 3), clip by clip.

    All views of a video have one size; `test_protocol: paper` keeps the shape of the
    video's frames, others cut squares.

    Args:
        path: See `open_frames`.
        data: Decoder, limits and test views.
        clip: The clips.
        plan: The views; None: those of `data`.

    Raises:
        UserError: Invalid settings.
        VideoError: The video cannot be decoded, or is above a limit.
    """
    data.check()
    data.check_clip(clip)
    check_decoder(data.decoder)
    return watchdog.within(
        path,
        data.limits.seconds,
        cut_views,
        path,
        data.decoder,
        plan or TestViews(data, clip),
        log_damage,
        None,
        data.limits,
        data.frame_rate,
    ).pixels


def open_frames(
    path: str,
    decoder: str,
    warn: Callable[[str, str], None] = log_damage,
    cache: FrameCache | None = None,
    limits: Limits = DEFAULT_LIMITS,
    frame_rate: float = 0.0,
) -> Frames:
    """Opens a video file, a folder of frames, or a `shard.tfrecord#offset` record.

    Args:
        path: The video file, `paths.FrameFolder` or record.
        decoder: `pyav` or `tfio`; for video files.
        warn: Called with the path and a description if frames are damaged, or their
            number is not the one that is stated.
        cache: Keeps the frames of video files; None decodes the file.
        limits: Of a file that is decoded; a cache has its own.
        frame_rate: Of a video whose own is unknown.

    Raises:
        VideoError: It cannot be decoded, or is above a limit.
        DataError: The decoder does not work here.
    """
    if paths.is_record(path):
        video = RecordFrames(path, limits.pixels)
    elif cache and paths.is_video_file(path):
        video = cache.open(path, warn)
    else:
        video = open_video(path, decoder, limits)
        if isinstance(video, FolderFrames) and video.problem:
            warn(path, video.problem)
    video.frame_rate = video.frame_rate or frame_rate
    return video


def plan_frames(path: str, video: Frames, plan: ViewPlan) -> np.ndarray:
    """The frame numbers of a plan, (clips, T).

    Args:
        path: The video.
        video: Its `num_frames`, `frame_rate` and `times`.
        plan: The views to cut.

    Raises:
        VideoError: The frame rate is needed and unknown.
    """
    if plan.needs_rate and not video.frame_rate:
        raise VideoError(
            path,
            "its frame rate is unknown, and task.clip.fps samples by time: set "
            "task.train_data.frame_rate, or that of validation_data",
        )
    return plan.frames(video.num_frames, video.frame_rate, video.times)


def decode_only(
    path: str,
    decoder: str,
    plan: ViewPlan,
    warn: Callable[[str, str], None] = log_damage,
    cache: FrameCache | None = None,
    limits: Limits = DEFAULT_LIMITS,
    frame_rate: float = 0.0,
) -> Views:
    """Decodes the same frames as `cut_views` and cuts nothing, to measure decoding."""
    video = open_frames(path, decoder, warn, cache, limits, frame_rate)
    frames = plan_frames(path, video, plan)
    wanted = np.unique(frames)
    found = sum(1 for _ in video.pictures(wanted))
    if found < _MIN_DECODED * len(wanted):
        raise VideoError(path, f"only {found} of {len(wanted)} frames were decoded")
    return Views(np.zeros((1, 0), np.uint8), frames, video.frame_rate)


def cut_views(
    path: str,
    decoder: str,
    plan: ViewPlan,
    warn: Callable[[str, str], None] = log_damage,
    cache: FrameCache | None = None,
    limits: Limits = DEFAULT_LIMITS,
    frame_rate: float = 0.0,
) -> Views:
    """The views of a plan.

    Each frame is decoded once, however many views it is in.

    Args:
        path: See `open_frames`.
        decoder: See there.
        plan: The views to cut.
        warn: See there.
        cache: See there.
        limits: See there.
        frame_rate: See there.

    Raises:
        VideoError: The video, or more than half of its frames, cannot be decoded.
    """
    video = open_frames(path, decoder, warn, cache, limits, frame_rate)
    frames = plan_frames(path, video, plan)
    cut, clips = FrameCutter(path, plan, limits), ClipFrames(path, frames)
    for number, picture in video.pictures(np.unique(frames)):
        clips.add(number, cut(picture), picture.is_damaged)
    return Views(clips.views(warn), frames, video.frame_rate)


class FrameCutter:
    """Cuts the windows of a plan from the frames of a video.

    Whole frames of another size than the first are scaled to the size of that.
    """

    def __init__(self, path: str, plan: ViewPlan, limits: Limits):
        self._path, self._plan, self._limits = path, plan, limits
        self._usual = None

    def __call__(self, picture: Picture) -> np.ndarray:
        """uint8 (windows, height, width, 3)."""
        windows = self._plan.windows(*picture.size)
        _check_size(self._path, windows[0].shape, self._limits)
        self._usual = self._usual or windows
        if windows[0].shape != self._usual[0].shape:
            windows = self._usual
        views = np.empty((len(windows), *windows[0].shape, 3), np.uint8)
        with video_errors(self._path, cropping.ERRORS):
            cut_windows(picture, windows, views)
        return views


class ClipFrames:
    """Collects the frames of clips.

    Args:
        path: The video.
        numbers: Of the frames, (clips, T); a frame may be in several places.
    """

    def __init__(self, path: str, numbers: np.ndarray):
        self._path, self._numbers = path, numbers
        self._views = None  # (clips, T, windows, height, width, 3)
        self._decoded = np.zeros(numbers.shape, bool)
        self._damaged = np.zeros(numbers.shape, bool)

    def add(self, number: int, windows: np.ndarray, is_damaged: bool) -> None:
        """Adds a frame, cut by `FrameCutter`, if it is in one of the clips."""
        places = self._numbers == number
        if not places.any():
            return
        if self._views is None:
            self._views = _empty_views(self._numbers.shape, windows.shape)
        self._views[places] = windows
        self._decoded |= places
        self._damaged[places] = is_damaged

    def views(self, warn: Callable[[str, str], None]) -> np.ndarray:
        """uint8 (views, T, height, width, 3).

        A frame that is lost to damage is replaced by the one before it (or after, at
        the start).

        Args:
            warn: Called with the path and a description if frames are damaged.

        Raises:
            VideoError: More than half of the frames are lost.
        """
        _fill_lost(self._path, self._views, self._numbers, self._decoded)
        if self._damaged.any() or not self._decoded.all():
            lost = _count(self._damaged | ~self._decoded)
            warn(self._path, f"{lost} are lost or concealed")
        views = np.moveaxis(self._views, 2, 1)
        return views.reshape(-1, *views.shape[2:])


def _check_size(path: str, shape: tuple[int, int], limits: Limits) -> None:
    """Whole frames become very long if very long frames are scaled up."""
    height, width = shape
    if height * width > limits.pixels:
        found = f"has views of {width} x {height} pixels"
        raise too_much(path, found, "pixels", limits.pixels)


def _empty_views(frames: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Views of (clips, T) frames, in the order of memory of the result.

    Args:
        frames: (clips, T).
        shape: Of the windows of a frame.
    """
    (clips, length), (windows, *pixels) = frames, shape
    return np.moveaxis(np.empty((clips, windows, length, *pixels), np.uint8), 2, 1)


def _fill_lost(
    path: str, views: np.ndarray, frames: np.ndarray, decoded: np.ndarray
) -> None:
    """Replaces each lost frame by the nearest decoded one before it."""
    if decoded.mean() < _MIN_DECODED:
        raise VideoError(path, f"only {_count(decoded)} could be decoded")
    good = np.unique(frames[decoded])
    for number in np.unique(frames[~decoded]):
        replacement = good[max(np.searchsorted(good, number) - 1, 0)]
        views[frames == number] = views[frames == replacement][0]


def _count(places: np.ndarray) -> str:
    return f"{places.sum()} of the {places.size} frames wanted"
