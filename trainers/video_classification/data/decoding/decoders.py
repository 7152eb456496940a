"""The decoders, by their name in the config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from trainers.video_classification.data import paths
from trainers.video_classification.data.cropping import Picture
from trainers.video_classification.data.decoding.frame_folder import FolderFrames
from trainers.video_classification.data.decoding.pyav import PyAVFrames
from trainers.video_classification.data.decoding.tfio import load_tfio, open_tfio
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.limits import DEFAULT_LIMITS, Limits

DECODERS = {"pyav": PyAVFrames, "tfio": open_tfio}


class Frames(Protocol):
    """The frames of an open video.

    Attributes:
        num_frames: Number of its frames.
        frame_rate: Average; 0 if unknown.
        times: When the frames are shown, in microseconds after the first, if they are
            not evenly spaced; else None.
    """

    num_frames: int
    frame_rate: float
    times: np.ndarray | None

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, Picture]]:
        """(number, frame) for every number in `wanted` that can be decoded."""


def open_video(path: str, decoder: str, limits: Limits = DEFAULT_LIMITS) -> Frames:
    """Opens a video file, or a folder of frames, whatever the decoder.

    Raises:
        VideoError: It cannot be decoded, or is above a limit.
        DataError: The decoder is unknown or does not work here.
    """
    if paths.is_frame_folder(path):
        return FolderFrames(path, limits)
    check_decoder(decoder)
    return DECODERS[decoder](path, limits)


def stream(video: Frames, wanted: np.ndarray) -> Iterator[tuple[int, Picture]]:
    """`video.pictures(wanted)` in rising order, in memory that does not grow.

    Args:
        video: From `open_video`.
        wanted: Rising.
    """
    if isinstance(video, PyAVFrames):
        return video.in_one_pass(wanted)
    return video.pictures(wanted)


def check_decoder(decoder: str) -> None:
    """Raises `DataError` if the decoder is unknown or does not work here."""
    if decoder not in DECODERS:
        raise DataError(
            f"Unknown `decoder`. Expected one of {tuple(DECODERS)}. Received: "
            f"{decoder!r}."
        )
    if decoder == "tfio":
        load_tfio()
