"""The timestamps of a video's frames, read from its packets without decoding any.

The number of frames in the header is often wrong, most often in truncated files,
and `index / rate` is wrong if the rate varies.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from trainers.video_classification.data.decoding.container import (
    check_file,
    opened,
)
from trainers.video_classification.data.errors import VideoError
from trainers.video_classification.data.limits import Limits, too_much

_EVEN = 1000.5  # microseconds: MKV has times in milliseconds
_NUM_CACHED = 128  # up to a megabyte each, for long videos


@dataclasses.dataclass(frozen=True, slots=True)
class Keyframe:
    """A packet that decoding can start from: presentation and decoding time."""

    pts: int
    dts: int | None


@dataclasses.dataclass(frozen=True)
class PacketIndex:
    """Frames and keyframes of a video.

    Attributes:
        num_frames: Number of frames that have packets.
        pts: Timestamps in the order of presentation; None if they are missing or
            unreliable, and frames have to be counted.
        keyframes: In file order.
        frame_rate: Average; 0 if unknown.
        times: When the frames are shown, in microseconds after the first, if they are
            not evenly spaced; else None.
    """

    num_frames: int
    pts: np.ndarray | None
    keyframes: tuple[Keyframe, ...]
    frame_rate: float
    times: np.ndarray | None = None

    def keyframe_before(self, time: int) -> Keyframe | None:
        """The last keyframe at or before a timestamp."""
        earlier = (keyframe for keyframe in self.keyframes if keyframe.pts <= time)
        return max(earlier, key=lambda keyframe: keyframe.pts, default=None)


def read_packet_index(path: str, content: bytes | None, limits: Limits) -> PacketIndex:
    """Reads the index of a file, or of its `content`; those of recent files are cached.

    Raises:
        VideoError: Not a video, without frames, or above a limit.
    """
    if content is not None:
        return _scan(path, content, limits)
    status = check_file(path, limits)
    return _cached(path, limits, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=_NUM_CACHED)
def _cached(path: str, limits: Limits, modified: int, size: int) -> PacketIndex:
    del modified, size  # part of the key: a file that changes is read again
    return _scan(path, None, limits)


def _scan(path: str, content: bytes | None, limits: Limits) -> PacketIndex:
    pts, keyframes = [], []
    with opened(path, content, limits) as file:
        for packet in file.packets():
            if not packet.size or packet.is_discard:
                continue
            pts.append(packet.pts)
            if packet.is_keyframe and packet.pts is not None:
                keyframes.append(Keyframe(packet.pts, packet.dts))
            if len(pts) > limits.frames:
                found = f"has more than {limits.frames} frames"
                raise too_much(path, found, "frames", limits.frames)
    if not pts:
        raise VideoError(path, "has no video frames")
    # AVI has no presentation times; those that libav derives are out of order if
    # there are packed B-frames.
    if file.format == "avi" or None in pts:
        return PacketIndex(len(pts), None, (), file.frame_rate)
    pts, keyframes = np.unique(pts), tuple(keyframes)
    microseconds = (pts - pts[0]) * (float(file.time_base or 0) * 1e6)
    rate, times = timing(microseconds, file.frame_rate)
    return PacketIndex(len(pts), pts, keyframes, rate, times)


def timing(times: np.ndarray, rate: float) -> tuple[float, np.ndarray | None]:
    """The frame rate; and the times of the frames, if they are not evenly spaced.

    Args:
        times: When the frames are shown, in microseconds.
        rate: Average by the header of the file; 0 if unknown.
    """
    count, times = len(times), times - times[0]
    if count == 1 or not times[-1]:
        return rate, None
    if rate and np.abs(times - np.arange(count) * (1e6 / rate)).max() <= _EVEN:
        return rate, None
    return (count - 1) * 1e6 / times[-1], times.round().astype(np.int64)
