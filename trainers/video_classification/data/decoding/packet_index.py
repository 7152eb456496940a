"""The timestamps of a video's frames, read from its packets without decoding any.

The number of frames in the header is often wrong, most often in truncated files,
and `index / rate` is wrong if the rate varies.
"""

from __future__ import annotations

import dataclasses
import threading

import av
import numpy as np

from trainers.video_classification.data.decoding.container import (
    VideoFile,
    check_file,
    opened,
)
from trainers.video_classification.data.errors import VideoError
from trainers.video_classification.data.limits import Limits, too_much

_EVEN = 1000.5  # microseconds: MKV has times in milliseconds
_MOST_KEPT = 2**24  # bytes of the packets of a file: half a minute of 1080p
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


_cache = {}
_cache_lock = threading.Lock()


def read_packet_index(
    path: str, content: bytes | None, limits: Limits
) -> tuple[PacketIndex, VideoFile | None]:
    """Reads the index of a file, or of its `content`; those of recent files are cached.

    Returns:
        The index; and, if it was read from a file of usual size, that file with the
        packets, which can be decoded once.

    Raises:
        VideoError: Not a video, without frames, or above a limit.
    """
    if content is not None:
        return _scan(path, content, limits)
    status = check_file(path, limits)
    # A file that changes is read again.
    key = path, limits, status.st_mtime_ns, status.st_size
    with _cache_lock:
        index = _cache.get(key)
    if index:
        return index, None
    index, file = _scan(path, None, limits)
    with _cache_lock:
        if len(_cache) >= _NUM_CACHED:
            del _cache[next(iter(_cache))]
        _cache[key] = index
    return index, file


def _scan(
    path: str, content: bytes | None, limits: Limits
) -> tuple[PacketIndex, VideoFile | None]:
    with opened(path, content, limits) as file:
        packets = _Packets(path, limits)
        for packet in file.packets():
            packets.add(packet)
    if packets.kept is None:
        return packets.index(file), None
    file.keep(packets.kept)
    return packets.index(file), file


class _Packets:
    """The packets of a file: the times of all, and themselves while they are few."""

    def __init__(self, path: str, limits: Limits):
        self._path, self._limits = path, limits
        self._pts, self._keyframes = [], []
        self._bytes, self.kept = 0, []

    def add(self, packet: av.Packet) -> None:
        self._keep(packet)
        if not packet.size or packet.is_discard:
            return
        self._pts.append(packet.pts)
        if packet.is_keyframe and packet.pts is not None:
            self._keyframes.append(Keyframe(packet.pts, packet.dts))
        limit = self._limits.frames
        if len(self._pts) > limit:
            found = f"has more than {limit} frames"
            raise too_much(self._path, found, "frames", limit)

    def _keep(self, packet: av.Packet) -> None:
        self._bytes += packet.size
        if self._bytes > _MOST_KEPT:
            self.kept = None
        elif self.kept is not None:
            self.kept.append(packet)

    def index(self, file: VideoFile) -> PacketIndex:
        if not self._pts:
            raise VideoError(self._path, "has no video frames")
        return _index(self._pts, tuple(self._keyframes), file)


def _index(
    pts: list[int | None], keyframes: tuple[Keyframe, ...], file: VideoFile
) -> PacketIndex:
    # AVI has no presentation times; those that libav derives are out of order if
    # there are packed B-frames.
    if file.format == "avi" or None in pts:
        return PacketIndex(len(pts), None, (), file.frame_rate)
    pts = np.unique(pts)
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
