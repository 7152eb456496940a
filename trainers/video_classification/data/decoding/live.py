"""Live input: network cameras, devices and pipes, whose frames come once."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from trainers.video_classification.data.decoding.container import (
    RTSP,
    is_device,
    opened_live,
)
from trainers.video_classification.data.decoding.picture import Converter, FramePicture
from trainers.video_classification.data.errors import VideoError
from trainers.video_classification.data.limits import Limits


def is_live(path: str) -> bool:
    """Whether frames come once: `rtsp://...`, a device, a pipe, or `-` for stdin."""
    if path == "-" or path.startswith(RTSP):
        return True
    with contextlib.suppress(OSError, ValueError):
        return is_device(path) or stat.S_ISFIFO(os.stat(path).st_mode)
    return False


def live_frames(
    path: str, limits: Limits, frame_rate: float = 0.0
) -> Iterator[tuple[float, float, FramePicture]]:
    """Yields (seconds after the first frame, frame rate, frame).

    Where times jump back, as after a new connection, frames are taken to continue at
    the frame rate.

    Args:
        path: See `is_live`.
        limits: Of the size of its frames.
        frame_rate: Of an input whose own is unknown.

    Raises:
        VideoError: It cannot be reached, is not a video, or ends without frames.
    """
    converter, clock = Converter(), None
    with opened_live(path, limits) as file:
        rate = file.frame_rate or frame_rate
        for packet in file.packets():
            for frame in file.decode(packet):
                clock = clock or _Clock(path, file, rate)
                picture = FramePicture(path, frame, converter)
                yield clock.seconds(frame.pts), rate, picture
    if clock is None:
        raise VideoError(path, "has no video frames")


class _Clock:
    """Turns timestamps into seconds that rise."""

    def __init__(self, path: str, file, rate: float):
        # As in `packet_index`: those of AVI are not those of its frames.
        self._counts = file.format == "avi" or not file.time_base
        self._path, self._base, self._rate = path, file.time_base, rate
        self._offset = self._last = None

    def seconds(self, pts: int | None) -> float:
        if self._counts or pts is None:
            self._last = self._next()
            return self._last
        time = float(pts * self._base)
        if self._offset is None:
            self._offset = time if self._last is None else time - self._next()
        if self._last is not None and time - self._offset <= self._last:
            self._offset = time - self._next()
        self._last = time - self._offset
        return self._last

    def _next(self) -> float:
        if self._last is None:
            return 0.0
        if not self._rate:
            raise VideoError(
                self._path,
                "its frames have no times, and its frame rate is unknown: set "
                "task.validation_data.frame_rate",
            )
        return self._last + 1 / self._rate
