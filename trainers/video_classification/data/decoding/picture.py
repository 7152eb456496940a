"""Decoded frames, of which only what is needed becomes RGB."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from trainers.video_classification.data.decoding.container import video_errors

_ALL = slice(None)


class Converter:
    """Converts frames to RGB: those of one video, one after another."""

    def __init__(self):
        self._reformatter = VideoReformatter()
        self._crop = self._cropped = None

    def rgb(self, frame: av.VideoFrame, rows: slice, columns: slice) -> np.ndarray:
        """A part of a frame, uint8 (rows, columns, 3): the pixels that the whole has.

        libswscale converts each pixel for itself only where the planes of the colours
        have half the height and width of the frame. Others are converted whole.
        """
        height, width = frame.height, frame.width
        rows, columns = rows.indices(height), columns.indices(width)
        if frame.format.name != "yuv420p" or height % 2 or width % 2:
            image = self._convert(frame)
            return image[slice(*rows), slice(*columns)]
        (top, bottom), (left, right) = _even(rows), _even(columns)
        frame = self._cut(frame, top, left, bottom - top, right - left)
        return self._convert(frame)[
            rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left
        ]

    def _cut(self, frame, top: int, left: int, height: int, width: int):
        """A part of a frame, in the memory of the frame."""
        if (height, width) == (frame.height, frame.width):
            return frame
        wanted = frame.height, frame.width, top, left, height, width
        if self._cropped != wanted:
            self._crop, self._cropped = _crop_filter(*wanted), wanted
        self._crop.vpush(frame)
        return self._crop.vpull()

    def _convert(self, frame: av.VideoFrame) -> np.ndarray:
        image = self._reformatter.reformat(
            frame, format="rgb24", interpolation=Interpolation.BILINEAR, threads=1
        )
        return _pixels(image)


@dataclasses.dataclass
class FramePicture:
    """A decoded frame, rotated as its rotation flag says."""

    path: str
    frame: av.VideoFrame
    converter: Converter

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

    def rgb(self, rows: slice = _ALL, columns: slice = _ALL) -> np.ndarray:
        turns = self._turns
        with video_errors(self.path):
            if not turns:
                return self.converter.rgb(self.frame, rows, columns)
            image = self.converter.rgb(self.frame, _ALL, _ALL)
        return np.rot90(image, turns)[rows, columns]


def _crop_filter(
    frame_height: int, frame_width: int, top: int, left: int, height: int, width: int
) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    frames = graph.add_buffer(
        width=frame_width,
        height=frame_height,
        format="yuv420p",
        time_base=Fraction(1, 1),
    )
    crop = graph.add("crop", f"{width}:{height}:{left}:{top}:exact=1")
    graph.link_nodes(frames, crop, graph.add("buffersink")).configure()
    return graph


def _even(indices: tuple[int, int, int]) -> tuple[int, int]:
    """The range extended to even numbers: whole pixels of the planes of colour."""
    start, stop, _ = indices
    return start // 2 * 2, -(-stop // 2) * 2


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    """(height, width, 3) of an rgb24 frame: a view of its memory, not a copy."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    rows = rows[: frame.height, : frame.width * 3]
    return rows.reshape(frame.height, frame.width, 3)
