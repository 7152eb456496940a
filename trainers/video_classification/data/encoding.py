"""Writes small videos, for the demo and the tests."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np


def write_video(
    path: str,
    frames: Iterable[np.ndarray],
    fps: int = 25,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> None:
    """Encodes uint8 RGB frames (height, width, 3), by default as H.264.

    Args:
        path: Its suffix selects the container.
        frames: At least one; sides must be even for most codecs.
        fps: Frames per second.
        codec: An encoder of FFmpeg.
        pix_fmt: Pixel format of the encoder.
        options: Of the encoder. Default: fast, nearly lossless H.264.
        container_options: Of the container.

    Example:
    >>> write_video("noise.mp4", np.random.randint(0, 255, (8, 32, 32, 3), np.uint8))
    """
    if options is None:
        options = {"crf": "12", "preset": "veryfast"} if codec == "libx264" else {}
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = None
        for number, pixels in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=fps, options=options)
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.thread_count = 1  # the same bytes on any machine
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError(f"No frames to write to {path}.")
        container.mux(stream.encode())
