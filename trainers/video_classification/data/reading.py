"""From a video (or a record of JPEG frames) to the views a plan asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trainers.video_classification.data import files
from trainers.video_classification.data.crop import Picture, cut_windows
from trainers.video_classification.data.errors import DataError, VideoError
from trainers.video_classification.data.failures import log_damage
from trainers.video_classification.data.pyav import PyAVSource
from trainers.video_classification.data.settings import check_settings
from trainers.video_classification.data.tfio import load_tfio, open_tfio
from trainers.video_classification.data.tfrecord import RecordSource
from trainers.video_classification.data.views import TestViews, ViewPlan

if TYPE_CHECKING:
    from trainers.video_classification.configs import ClipConfig, DataConfig
    from trainers.video_classification.data.cache import FrameCache

DECODERS = ("pyav", "tfio")
_MIN_DECODED = 0.5  # of a clip's frames; what is missing is repeated


class Source(Protocol):
    """A video that can be asked for frames by number."""

    num_frames: int

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, Picture]]:
        """(number, frame) for every number in `wanted` that can be decoded."""


def open_source(path: str, decoder: str) -> Source:
    """Opens a video file, or a `shard.tfrecord#offset` record.

    Raises:
        VideoError: It cannot be decoded.
        DataError: The decoder cannot be used here.
    """
    if files.is_record(path):
        return RecordSource(path)
    if decoder == "pyav":
        return PyAVSource(path)
    if decoder == "tfio":
        return open_tfio(path)
    raise _unknown(decoder)


def check_decoder(decoder: str) -> None:
    """Raises `DataError` if the decoder is unknown or cannot be used here."""
    if decoder == "tfio":
        load_tfio()
    elif decoder != "pyav":
        raise _unknown(decoder)


def _unknown(decoder: str) -> DataError:
    return DataError(
        f"Unknown `decoder`. Expected one of {DECODERS}. Received: {decoder!r}."
    )


def read_views(path: str, data: DataConfig, clip: ClipConfig) -> np.ndarray:
    """The test views of one video: uint8 (views, T, H, W, 3), clip by clip.

    Raises:
        VideoError: The video cannot be decoded.
    """
    check_settings(data, clip)
    check_decoder(data.decoder)
    return cut_views(path, data.decoder, TestViews(data, clip))


def decode_only(
    path: str,
    decoder: str,
    plan: ViewPlan,
    warn: Callable[[str, str], None] = log_damage,
    cache: FrameCache | None = None,
) -> np.ndarray:
    """Decodes what `cut_views` would, and cuts nothing: for measuring."""
    source = _open(path, decoder, warn, cache)
    wanted = np.unique(plan.frames(source.num_frames))
    found = sum(1 for _ in source.pictures(wanted))
    if found < _MIN_DECODED * len(wanted):
        raise VideoError(path, f"only {found} of {len(wanted)} frames were decoded")
    return np.zeros((1, 0), np.uint8)


def cut_views(
    path: str,
    decoder: str,
    plan: ViewPlan,
    warn: Callable[[str, str], None] = log_damage,
    cache: FrameCache | None = None,
) -> np.ndarray:
    """The views of a plan: uint8 (views, T, size, size, 3).

    Each frame is decoded once, however many views it is in. A frame that is
    lost to damage is replaced by the one before it (or after, at the start).

    Args:
        path: A video, or a `shard.tfrecord#offset` record.
        decoder: `pyav` or `tfio`; for videos.
        plan: What to cut.
        warn: Called with the path and what happened if frames were damaged.
        cache: Where the frames of videos are kept; None decodes the video.

    Raises:
        VideoError: The video cannot be decoded, or not half of the frames.
    """
    source = _open(path, decoder, warn, cache)
    frames = plan.frames(source.num_frames)  # (clips, T)
    shape = plan.num_windows, plan.num_frames, plan.size, plan.size, 3
    views = np.empty((plan.num_clips, *shape), np.uint8)
    by_frame = np.moveaxis(views, 2, 1)  # (clips, T, windows, size, size, 3)
    decoded, damaged = np.zeros(frames.shape, bool), np.zeros(frames.shape, bool)
    for number, picture in source.pictures(np.unique(frames)):
        first, *others = np.argwhere(frames == number).tolist()
        first = by_frame[tuple(first)]
        cut_windows(picture, plan.windows(*picture.size), first)
        for place in others:
            by_frame[tuple(place)] = first
        decoded[frames == number] = True
        damaged[frames == number] = picture.is_damaged
    _repair(path, by_frame, frames, decoded)
    if damaged.any() or not decoded.all():
        warn(path, f"{_count(damaged | ~decoded)} are lost or patched up")
    return views.reshape(-1, *views.shape[2:])


def _open(path: str, decoder: str, warn, cache: FrameCache | None):
    return cache.source(path, warn) if cache else open_source(path, decoder)


def _repair(
    path: str, views: np.ndarray, frames: np.ndarray, decoded: np.ndarray
) -> None:
    """Fills the places of lost frames with the nearest frame before."""
    if decoded.mean() < _MIN_DECODED:
        raise VideoError(path, f"only {_count(decoded)} could be decoded")
    good = np.unique(frames[decoded])
    for number in np.unique(frames[~decoded]):
        stand_in = good[max(np.searchsorted(good, number) - 1, 0)]
        views[frames == number] = views[frames == stand_in][0]


def _count(places: np.ndarray) -> str:
    return f"{places.sum()} of the {places.size} frames wanted"
