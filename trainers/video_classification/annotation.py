"""Writes a video again, with captions in its pictures."""

import functools
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainers.video_classification.data import watchdog
from trainers.video_classification.data.configs import DataConfig
from trainers.video_classification.data.decoding import stream
from trainers.video_classification.data.reading import open_frames
from trainers.video_classification.data.windows import frame_seconds

_TIME_BASE = Fraction(1, 90_000)
_AT_ONCE = 8  # frames that the watchdog waits for

Shown = Sequence[tuple[float, float, list[str]]]  # start, end in seconds; lines


def annotate(path: str, data: DataConfig, shown: Shown, target: str) -> None:
    """Writes an H.264 MP4 of all frames, at their times, without sound.

    Args:
        path: A video file, or a folder of frames.
        data: Its decoder, limits and frame rate.
        shown: Captions, in their order.
        target: A local path.

    Raises:
        VideoError: The video cannot be decoded.
        OSError: The file cannot be written.
    """
    video = open_frames(
        path, data.decoder, limits=data.limits, frame_rate=data.frame_rate
    )
    seconds = frame_seconds(path, video)
    rate = Fraction(len(seconds) - 1) / Fraction(float(seconds[-1]))
    pictures = _drawn(video, seconds, shown)
    frames = watchdog.iterate(path, data.limits.seconds, pictures, _AT_ONCE)
    # As in `container.opened`, "12:30.mp4" is no protocol of its own.
    with av.open(f"file:{os.path.abspath(target)}", "w", format="mp4") as container:
        output = None
        for time, pixels in frames:
            if output is None:
                output = _stream(container, rate.limit_denominator(1001), pixels.shape)
            height, width = output.height, output.width
            frame = av.VideoFrame.from_ndarray(_fitted(pixels, height, width), "rgb24")
            frame.pts, frame.time_base = round(time / _TIME_BASE), _TIME_BASE
            container.mux(output.encode(frame))
        container.mux(output.encode())


def _stream(container, rate: Fraction, shape):
    height, width = (side // 2 * 2 or 2 for side in shape[:2])  # H.264 takes even ones
    options = {"crf": "20", "preset": "veryfast"}
    output = container.add_stream("libx264", rate=rate, options=options)
    output.height, output.width, output.pix_fmt = height, width, "yuv420p"
    output.codec_context.time_base = _TIME_BASE
    return output


def _fitted(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels as a picture of a size: cut, and black where they end."""
    picture = np.zeros((height, width, 3), np.uint8)
    part = pixels[:height, :width]
    picture[: part.shape[0], : part.shape[1]] = part
    return picture


def _drawn(video, seconds, shown: Shown) -> Iterator[tuple[float, np.ndarray]]:
    """(time, picture) of each frame."""
    coming = iter(shown)
    present = next(coming, None)
    for number, picture in stream(video, np.arange(video.num_frames)):
        time = float(seconds[number])
        while present and present[1] <= time:
            present = next(coming, None)
        pixels = picture.rgb()
        if present and present[0] <= time:
            pixels = draw_caption(pixels, tuple(present[2]))
        yield time, pixels


def draw_caption(pixels: np.ndarray, lines: tuple[str, ...]) -> np.ndarray:
    """The picture with lines of text in the lower left corner."""
    height, width = pixels.shape[:2]
    text = _text(lines, height, width)  # (h, w), from 0 to 1
    rows, columns = text.shape
    drawn = np.array(pixels)
    corner = drawn[height - rows :, :columns]
    corner[:] = (corner * 0.35 * (1 - text[..., None]) + 255 * text[..., None]).round()
    return drawn


@functools.lru_cache(maxsize=8)
def _text(lines: tuple[str, ...], height: int, width: int) -> np.ndarray:
    """How white each pixel of a box with text is; it fits into the picture."""
    size = max(height // 16, 9)
    font = ImageFont.truetype(
        os.path.join(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size
    )
    image = ImageDraw.Draw(Image.new("L", (1, 1)))
    text = "\n".join(lines)
    right, bottom = image.multiline_textbbox((0, 0), text, font)[2:]
    box = min(int(right) + size, width), min(int(bottom) + size // 2, height)
    canvas = Image.new("L", box)
    ImageDraw.Draw(canvas).multiline_text((size // 2, size // 8), text, 255, font)
    return np.asarray(canvas, np.float32) / 255
