"""A video as JPEG frames, for TFRecord shards and the frame cache."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from trainers.video_classification.data import cropping, watchdog
from trainers.video_classification.data.cropping import ArrayPicture, scale
from trainers.video_classification.data.decoding import (
    Frames,
    open_video,
    video_errors,
)
from trainers.video_classification.data.decoding.pyav import PyAVFrames
from trainers.video_classification.data.errors import VideoError
from trainers.video_classification.data.images import decode_image, encode_jpeg
from trainers.video_classification.data.limits import DEFAULT_LIMITS, Limits
from trainers.video_classification.data.views import scaled_size

_MIN_DECODED = 0.5  # of a video's frames


@dataclasses.dataclass(frozen=True)
class JpegVideo:
    """All frames of a video.

    Attributes:
        size: (height, width).
        frame_rate: Average; 0 if unknown.
        times: When the frames are shown, in microseconds after the first, if they are
            not evenly spaced; else None.
        num_bad: Frames that are lost, or in which the decoder concealed errors.
        places: (start, number of bytes) in `file` of each frame.
        file: Has the encoded frames.
    """

    size: tuple[int, int]
    frame_rate: float
    times: np.ndarray | None
    num_bad: int
    places: Sequence[tuple[int, int]]
    file: IO[bytes]

    def frames(self, numbers: range) -> Iterator[bytes]:
        for start, num_bytes in self.places[numbers.start : numbers.stop]:
            self.file.seek(start)
            yield self.file.read(num_bytes)

    def parts(self, max_bytes: int) -> list[range]:
        """Runs of frames that have no more than `max_bytes` together."""
        starts, total = [0], 0
        for number, (_, num_bytes) in enumerate(self.places):
            total += num_bytes
            if total > max_bytes and number:
                starts.append(number)
                total = num_bytes
        stops = [*starts[1:], len(self.places)]
        return [range(*span) for span in zip(starts, stops, strict=True)]


@contextlib.contextmanager
def encode_video(
    path: str,
    short_side: int,
    quality: int,
    memory: int,
    folder: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    frame_rate: float = 0.0,
) -> Iterator[JpegVideo]:
    """Context with a video whose frames have been decoded, and encoded one by one.

    Args:
        path: The video.
        short_side: Frames with a larger one are scaled down to it.
        quality: Of the JPEG frames, 1-100.
        memory: Bytes of frames that are kept in memory; more are kept on disk.
        folder: Local folder for these, in a file without a name. None: the system's.
        limits: Of what reading the video may cost.
        frame_rate: Of a video whose own is unknown.

    Raises:
        VideoError: The video, or more than half of its frames, cannot be decoded.
    """
    video = watchdog.within(path, limits.seconds, open_video, path, "pyav", limits)
    size, places, num_damaged = None, {}, 0
    with tempfile.SpooledTemporaryFile(memory, dir=folder) as file:
        frames = _encode_to(file, path, video, short_side, quality)
        for frame in watchdog.iterate(path, limits.seconds, frames):
            number, size, is_damaged, places[number] = frame
            num_damaged += is_damaged
        _check_decoded(path, len(places), video.num_frames)
        num_bad = num_damaged + video.num_frames - len(places)
        kept = sorted(places)
        in_order = [places[number] for number in kept]
        rate = video.frame_rate or frame_rate
        times = _times(video, rate, kept)
        yield JpegVideo(size, rate, times, num_bad, in_order, file)


def _times(video: Frames, rate: float, kept: Sequence[int]) -> np.ndarray | None:
    """The times of the frames that are kept; None if they are evenly spaced."""
    if video.times is not None:
        times = video.times[kept]
    elif len(kept) == video.num_frames or not rate:
        return None
    else:
        times = (np.array(kept) * (1e6 / rate)).round().astype(np.int64)
    return times - times[0]


def _encode_to(
    file: IO[bytes], path: str, video: Frames, short_side: int, quality: int
) -> Iterator[tuple[int, tuple[int, int], bool, tuple[int, int]]]:
    """Writes every frame: (number, size, whether it is damaged, place in the file)."""
    size, end = None, 0
    for number, picture in video.pictures(np.arange(video.num_frames)):
        size = size or _target(picture.size, short_side)
        with video_errors(path, cropping.ERRORS):
            content = encode_jpeg(scale(picture.rgb(), *size), quality)
        file.write(content)
        yield number, size, picture.is_damaged, (end, len(content))
        end += len(content)


class SingleFrames:
    """Frames of a video, encoded and decoded as those of `encode_video` are.

    A video without lost frames gives the same pixels, but each time decodes it again.

    Args:
        path: The video.
        short_side: As for `encode_video`.
        quality: As for `encode_video`.
        limits: As for `encode_video`.

    Raises:
        VideoError: The video cannot be decoded, or is above a limit.
    """

    def __init__(
        self,
        path: str,
        short_side: int,
        quality: int,
        limits: Limits = DEFAULT_LIMITS,
    ):
        self._video = PyAVFrames(path, limits)
        self._short_side, self._quality = short_side, quality
        self.num_frames = self._video.num_frames
        self.frame_rate, self.times = self._video.frame_rate, self._video.times

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, ArrayPicture]]:
        for number, picture in self._video.pictures(wanted):
            size = _target(picture.size, self._short_side)
            with video_errors(self._video.path, cropping.ERRORS):
                encoded = encode_jpeg(scale(picture.rgb(), *size), self._quality)
            yield number, ArrayPicture(decode_image(encoded), picture.is_damaged)


def _target(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    return scaled_size(*size, min(short_side, *size))


def _check_decoded(path: str, decoded: int, expected: int) -> None:
    if decoded < _MIN_DECODED * expected:
        raise VideoError(
            path, f"only {decoded} of its {expected} frames could be decoded"
        )
