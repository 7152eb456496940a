"""Decoding with PyAV: exactly the frames asked for, and little else.

Frames are told apart by their timestamps, read from the packets before anything
is decoded: headers lie about how many frames there are, most often in the files
that were cut short, and `index / rate` is wrong where the rate varies.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import av
import numpy as np
import tensorflow as tf
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from trainers.video_classification.data import files
from trainers.video_classification.data.errors import VideoError


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

    def rgb(self, height: int, width: int) -> np.ndarray:
        stored = (width, height) if self._turns % 2 else (height, width)
        shrinks = stored[0] < self.frame.height
        image = self.reformatter.reformat(
            self.frame,
            width=stored[1],
            height=stored[0],
            format="rgb24",
            interpolation=Interpolation.AREA if shrinks else Interpolation.BILINEAR,
            threads=1,
        ).to_ndarray()
        return np.rot90(image, self._turns) if self._turns else image


class PyAVSource:
    """A video file, local or on one of TensorFlow's file systems.

    A remote file is fetched whole, once: it would be read two or three times.
    """

    def __init__(self, path: str):
        self.path = path
        self._content = _fetch(path) if files.is_remote(path) else None
        packets = self._scan()
        if not packets:
            raise VideoError(path, "has no video frames")
        self._keys = [p for p in packets if p.is_key and p.pts is not None]
        # AVI has no presentation times, and ones made up from packed B-frames
        # are out of order: its frames, and raw streams', have to be counted.
        self._is_counted = self._format == "avi" or any(p.pts is None for p in packets)
        if self._is_counted:
            self.num_frames = len(packets)
        else:
            self._times = np.unique([p.pts for p in packets])
            self.num_frames = len(self._times)

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, FramePicture]]:
        if self._is_counted:
            yield from self._by_count({int(n) for n in wanted})
            return
        missing = {int(self._times[n]): int(n) for n in wanted}
        for exhaustive in (False, True):
            if missing:
                yield from self._by_time(missing, exhaustive)

    def _scan(self) -> list[_Packet]:
        packets = []
        with _opened(self.path, self._content) as (container, stream):
            self._format = container.format.name
            self.frame_rate = float(stream.average_rate or 0)
            try:
                for packet in container.demux(stream):
                    if packet.size and not packet.is_discard:
                        packets.append(_Packet.of(packet))
            except av.FFmpegError:
                pass  # cut short: what came before is still good
        return packets

    def _by_count(self, wanted: set[int]) -> Iterator[tuple[int, FramePicture]]:
        reformatter = VideoReformatter()
        with _opened(self.path, self._content) as (container, stream):
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
        with _opened(self.path, self._content) as (container, stream):
            packets = container.demux(stream)
            if not exhaustive:
                packets = self._from_keyframe(container, stream, min(missing))
                packets = _skip_unreferenced(packets, stream, frozenset(missing))
            for frame in _decode(packets):
                number = missing.pop(frame.pts, None)
                if number is not None:
                    yield number, FramePicture(frame, reformatter)
                if not missing or (frame.pts is not None and frame.pts > last):
                    return

    def _from_keyframe(self, container, stream, time: int) -> Iterator[av.Packet]:
        key = max(
            (k for k in self._keys if k.pts <= time), key=lambda k: k.pts, default=None
        )
        if key is None or key is self._keys[0]:
            yield from container.demux(stream)
            return
        container.seek(key.pts if key.dts is None else key.dts, stream=stream)
        started = False
        for packet in container.demux(stream):
            started = started or packet.pts == key.pts
            if started:
                yield packet


@dataclasses.dataclass(frozen=True)
class _Packet:
    pts: int | None
    dts: int | None
    is_key: bool

    @classmethod
    def of(cls, packet: av.Packet) -> _Packet:
        return cls(packet.pts, packet.dts, packet.is_keyframe)


def _skip_unreferenced(packets, stream, wanted: frozenset[int]) -> Iterator[av.Packet]:
    """Has the decoder leave out frames not in `wanted` that no other needs."""
    context = stream.codec_context
    for packet in packets:
        is_needed = packet.pts is None or packet.pts in wanted
        context.skip_frame = "DEFAULT" if is_needed else "NONREF"
        yield packet


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


@contextmanager
def _opened(path: str, content: bytes | None):
    """(container, video stream), closed afterwards.

    Raises:
        VideoError: Not a regular file, not a video, or no video in it.
    """
    if content is None and not os.path.isfile(path):
        there = os.path.exists(path)
        raise VideoError(path, "not a regular file" if there else "no such file")
    file = os.fsdecode(path) if content is None else io.BytesIO(content)
    try:
        with av.open(file) as container:
            yield container, _video_stream(container, path)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(path, f"cannot be decoded ({_reason(error)})") from error


def _fetch(path: str) -> bytes:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except (tf.errors.OpError, OSError) as error:
        raise VideoError(path, f"cannot be read ({_reason(error)})") from error


def _video_stream(container, path: str):
    streams = container.streams.video
    moving = [s for s in streams if not s.disposition & Disposition.attached_pic]
    if not moving:
        raise VideoError(path, "has no video stream")
    # Clips are decoded side by side already; libav's own threads only get in
    # the way, and its frame threads can deadlock with Python's logging.
    moving[0].thread_type = "NONE"
    moving[0].codec_context.thread_count = 1
    return moving[0]


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0]
