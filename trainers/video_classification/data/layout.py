"""Where the frames of a video are, read from its packets without decoding any.

Headers lie about how many frames there are, most often in the files that were
cut short, and `index / rate` is wrong where the rate varies.
"""

from __future__ import annotations

import dataclasses
import functools
import os

import av
import numpy as np

from trainers.video_classification.data.container import opened
from trainers.video_classification.data.errors import VideoError

_NUM_REMEMBERED = 128  # of long videos, up to a megabyte each


@dataclasses.dataclass(frozen=True)
class Key:
    """A packet that decoding can start from: presentation and decoding time."""

    pts: int
    dts: int | None


@dataclasses.dataclass(frozen=True)
class Layout:
    """Frames and keyframes of a video.

    Attributes:
        num_frames: As many as there are packets for.
        times: Timestamps in the order of presentation; None where there are
            none to trust, and frames have to be counted.
        keys: Keyframes, in file order.
        frame_rate: Average; 0 if unknown.
    """

    num_frames: int
    times: np.ndarray | None
    keys: tuple[Key, ...]
    frame_rate: float

    def key_before(self, time: int) -> Key | None:
        """The last keyframe at or before a timestamp."""
        earlier = (key for key in self.keys if key.pts <= time)
        return max(earlier, key=lambda key: key.pts, default=None)


def read_layout(path: str, content: bytes | None) -> Layout:
    """The layout of a file, or of its `content`; of recent files it is remembered.

    Raises:
        VideoError: Not a video, or without frames.
    """
    if content is not None or not os.path.isfile(path):
        return _scan(path, content)
    status = os.stat(path)
    return _remembered(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=_NUM_REMEMBERED)
def _remembered(path: str, modified: int, size: int) -> Layout:
    del modified, size  # part of the key: a file that changes is read again
    return _scan(path, None)


def _scan(path: str, content: bytes | None) -> Layout:
    times, keys = [], []
    with opened(path, content) as (container, stream):
        # AVI has no presentation times, and ones made up from packed B-frames
        # are out of order.
        is_avi = container.format.name == "avi"
        frame_rate = float(stream.average_rate or 0)
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    times.append(packet.pts)
                    if packet.is_keyframe and packet.pts is not None:
                        keys.append(Key(packet.pts, packet.dts))
        except av.FFmpegError:
            pass  # cut short: what came before is still good
    if not times:
        raise VideoError(path, "has no video frames")
    if is_avi or None in times:
        return Layout(len(times), None, (), frame_rate)
    times = np.unique(times)
    return Layout(len(times), times, tuple(keys), frame_rate)
