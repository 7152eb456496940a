"""Decodes the requested frames of a video, and few others, with PyAV.

Frames are identified by their timestamps (see `packet_index.py`). A file of usual size
is read once: its packets are kept from the index to the decoder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import av
import numpy as np

from trainers.core import files
from trainers.video_classification.data.decoding.container import (
    VideoFile,
    fetch,
    opened,
)
from trainers.video_classification.data.decoding.packet_index import read_packet_index
from trainers.video_classification.data.decoding.picture import Converter, FramePicture
from trainers.video_classification.data.limits import DEFAULT_LIMITS, Limits


class PyAVFrames:
    """The frames of a video file, local or on one of TensorFlow's file systems.

    A remote file is fetched whole, once; otherwise it would be read up to three times.
    Frames may be read again, which opens the file again.

    Args:
        path: The file.
        limits: Of its size, length and frames.

    Raises:
        VideoError: It cannot be decoded, or is above a limit.
    """

    def __init__(self, path: str, limits: Limits = DEFAULT_LIMITS):
        self.path, self.limits = path, limits
        self._content = fetch(path, limits) if files.is_remote(path) else None
        self._index, self._file = read_packet_index(path, self._content, limits)
        self.num_frames = self._index.num_frames
        self.frame_rate = self._index.frame_rate
        self.times = self._index.times

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, FramePicture]]:
        pts = self._index.pts
        if pts is None:
            yield from self._by_count({int(n) for n in wanted})
            return
        missing = {int(pts[n]): int(n) for n in wanted}
        for exhaustive in (False, True):
            if missing:
                yield from self._by_time(missing, exhaustive)

    def in_one_pass(self, wanted: np.ndarray) -> Iterator[tuple[int, FramePicture]]:
        """`pictures` in their order, each as soon as it is decoded, from the start."""
        pts = self._index.pts
        if pts is None:
            return self._by_count({int(n) for n in wanted})
        return self._by_time({int(pts[n]): int(n) for n in wanted}, exhaustive=True)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[VideoFile]:
        file, self._file = self._file, None
        if file:
            yield file
        else:
            with opened(self.path, self._content, self.limits) as file:
                yield file

    def _by_count(self, wanted: set[int]) -> Iterator[tuple[int, FramePicture]]:
        converter = Converter()
        with self._opened() as file:
            frames = _decode(file, file.packets())
            for number, frame in zip(range(max(wanted) + 1), frames, strict=False):
                if number in wanted:
                    yield number, FramePicture(self.path, frame, converter)

    def _by_time(
        self, missing: dict[int, int], exhaustive: bool
    ) -> Iterator[tuple[int, FramePicture]]:
        """Removes the frames it finds from `missing`, timestamp -> frame number.

        The first pass seeks to a keyframe and skips every frame that is neither
        wanted nor referred to. If frames are still missing afterwards, an
        exhaustive pass decodes everything from the start.
        """
        converter = Converter()
        last = max(missing)
        with self._opened() as file:
            packets = file.packets()
            if not exhaustive:
                packets = self._from_keyframe(file, min(missing))
                packets = _only_needed(file, packets, set(missing))
            for frame in _decode(file, packets):
                number = missing.pop(frame.pts, None)
                if number is not None:
                    yield number, FramePicture(self.path, frame, converter)
                if not missing or (frame.pts is not None and frame.pts > last):
                    return

    def _from_keyframe(self, file: VideoFile, time: int) -> Iterator[av.Packet]:
        keyframe = self._index.keyframe_before(time)
        if keyframe is None or keyframe is self._index.keyframes[0]:
            yield from file.packets()
            return
        file.seek(keyframe.pts if keyframe.dts is None else keyframe.dts)
        started = False
        for packet in file.packets():
            started = started or packet.pts == keyframe.pts
            if started:
                yield packet


def _only_needed(
    file: VideoFile, packets: Iterator[av.Packet], wanted: set[int]
) -> Iterator[av.Packet]:
    """Makes the decoder skip frames that are not in `wanted` and not referred to.

    It is flushed after the last wanted frame: it holds frames back for reordering,
    and would otherwise have to decode later ones to release them.
    """
    for packet in packets:
        file.skip_unreferenced(packet.pts is not None and packet.pts not in wanted)
        yield packet
        wanted.discard(packet.pts)
        if not wanted:
            break
    yield None


def _decode(
    file: VideoFile, packets: Iterator[av.Packet | None]
) -> Iterator[av.VideoFrame]:
    """Decodes packet by packet, so that a damaged one loses only its own frame."""
    for packet in packets:
        yield from file.decode(packet)
