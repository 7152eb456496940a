"""Opens videos, and cuts views from their frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainers.core.failures import log_damage
from trainers.video_classification.data import cropping, paths, watchdog
from trainers.video_classification.data.cropping import cut_windows
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
from trainers.video_classification.data.views import TestViews, ViewPlan, Window

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


def read_views(path: str, data: DataConfig, clip: ClipConfig) -> np.ndarray:
    """The test views of one video: uint8 (views, T, H, W, 3), clip by clip.

    All views of a video have one size; `test_protocol: paper` keeps the shape of the
    video's frames, others cut squares.

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
        TestViews(data, clip),
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


def _plan_frames(path: str, video: Frames, plan: ViewPlan) -> np.ndarray:
    """The frame numbers of a plan, (clips, T)."""
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
    frames = _plan_frames(path, video, plan)
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

    Each frame is decoded once, however many views it is in. A frame that is
    lost to damage is replaced by the one before it (or after, at the start).

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
    frames = _plan_frames(path, video, plan)  # (clips, T)
    by_frame = None  # (clips, T, windows, height, width, 3)
    decoded, damaged = np.zeros(frames.shape, bool), np.zeros(frames.shape, bool)
    for number, picture in video.pictures(np.unique(frames)):
        windows = plan.windows(*picture.size)
        _check_size(path, windows[0].shape, limits)
        if by_frame is None:
            by_frame, usual = _empty_views(frames.shape, windows), windows
        if windows[0].shape != usual[0].shape:  # whole frames, of another size
            windows = usual
        first, *others = np.argwhere(frames == number).tolist()
        first = by_frame[tuple(first)]
        with video_errors(path, cropping.ERRORS):
            cut_windows(picture, windows, first)
        for place in others:
            by_frame[tuple(place)] = first
        decoded[frames == number] = True
        damaged[frames == number] = picture.is_damaged
    _fill_lost(path, by_frame, frames, decoded)
    if damaged.any() or not decoded.all():
        warn(path, f"{_count(damaged | ~decoded)} are lost or concealed")
    views = np.moveaxis(by_frame, 2, 1)
    pixels = views.reshape(-1, *views.shape[2:])
    return Views(pixels, frames, video.frame_rate)


def _check_size(path: str, shape: tuple[int, int], limits: Limits) -> None:
    """Whole frames become very long if very long frames are scaled up."""
    height, width = shape
    if height * width > limits.pixels:
        found = f"has views of {width} x {height} pixels"
        raise too_much(path, found, "pixels", limits.pixels)


def _empty_views(frames: tuple[int, int], windows: list[Window]) -> np.ndarray:
    """Views of (clips, T) frames, in the order of memory of the result."""
    (clips, length), (height, width) = frames, windows[0].shape
    views = np.empty((clips, len(windows), length, height, width, 3), np.uint8)
    return np.moveaxis(views, 2, 1)


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
