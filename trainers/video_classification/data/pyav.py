"""Decoding with PyAV: exactly the frames asked for, and little else.

Frames are told apart by their timestamps (see `layout.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from trainers.video_classification.data import files
from trainers.video_classification.data.container import fetch, opened
from trainers.video_classification.data.layout import read_layout


@dataclasses.dataclass
class FramePicture:
    """A decoded frame, the way up its rotation flag says."""

    frame: av.VideoFrame
    reformatter: VideoReformatter

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.frame.height, self.frame.width
        return (width, height) if self._turns % 2 else (height, width)

    @property
    def is_damaged(self) -> bool:
        return self.frame.is_corrupt

    @property
    def _turns(self) -> int:
        return round(self.frame.rotation / 90) % 4  # anticlockwise

    def rgb(self) -> np.ndarray:
        image = self.reformatter.reformat(
            self.frame,
            format="rgb24",
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
        image = _pixels(image)
        return np.rot90(image, self._turns) if self._turns else image


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    """(height, width, 3) of an rgb24 frame, in its own memory: no copy."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    rows = rows[: frame.height, : frame.width * 3]
    return rows.reshape(frame.height, frame.width, 3)


class PyAVSource:
    """A video file, local or on one of TensorFlow's file systems.

    A remote file is fetched whole, once: it would be read two or three times.
    """

    def __init__(self, path: str):
        self.path = path
        self._content = fetch(path) if files.is_remote(path) else None
        self._layout = read_layout(path, self._content)
        self.num_frames = self._layout.num_frames
        self.frame_rate = self._layout.frame_rate

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, FramePicture]]:
        times = self._layout.times
        if times is None:
            yield from self._by_count({int(n) for n in wanted})
            return
        missing = {int(times[n]): int(n) for n in wanted}
        for exhaustive in (False, True):
            if missing:
                yield from self._by_time(missing, exhaustive)

    def _by_count(self, wanted: set[int]) -> Iterator[tuple[int, FramePicture]]:
        reformatter = VideoReformatter()
        with opened(self.path, self._content) as (container, stream):
            frames = _decode(container.demux(stream))
            for number, frame in zip(range(max(wanted) + 1), frames, strict=False):
                if number in wanted:
                    yield number, FramePicture(frame, reformatter)

    def _by_time(
        self, missing: dict[int, int], exhaustive: bool
    ) -> Iterator[tuple[int, FramePicture]]:
        """Takes what it finds out of `missing`, timestamp -> frame number.

        First it seeks to a keyframe and leaves out every frame that is neither
        wanted nor referred to; if frames are then still missing, an exhaustive
        pass decodes everything from the start.
        """
        reformatter = VideoReformatter()
        last = max(missing)
        with opened(self.path, self._content) as (container, stream):
            packets = container.demux(stream)
            if not exhaustive:
                packets = self._from_keyframe(container, stream, min(missing))
                packets = _only_needed(packets, stream, set(missing))
            for frame in _decode(packets):
                number = missing.pop(frame.pts, None)
                if number is not None:
                    yield number, FramePicture(frame, reformatter)
                if not missing or (frame.pts is not None and frame.pts > last):
                    return

    def _from_keyframe(self, container, stream, time: int) -> Iterator[av.Packet]:
        key = self._layout.key_before(time)
        if key is None or key is self._layout.keys[0]:
            yield from container.demux(stream)
            return
        container.seek(key.pts if key.dts is None else key.dts, stream=stream)
        started = False
        for packet in container.demux(stream):
            started = started or packet.pts == key.pts
            if started:
                yield packet


def _only_needed(packets, stream, wanted: set[int]) -> Iterator[av.Packet]:
    """Has the decoder leave out frames not in `wanted` that no other needs.

    Once it has the last that is wanted, it is flushed: to push frames out that
    it holds back for reordering, it would have to decode what comes after.
    """
    context = stream.codec_context
    for packet in packets:
        is_needed = packet.pts is None or packet.pts in wanted
        context.skip_frame = "DEFAULT" if is_needed else "NONREF"
        yield packet
        wanted.discard(packet.pts)
        if not wanted:
            break
    flush = av.Packet()
    flush.stream = stream
    yield flush


def _decode(packets: Iterator[av.Packet]) -> Iterator[av.VideoFrame]:
    """Decodes packet by packet, so that a damaged one costs its own frame only."""
    packets = iter(packets)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
        except av.FFmpegError:
            return
        try:
            yield from packet.decode()
        except av.FFmpegError:
            continue
