"""A video file as JPEG frames, for TFRecord shards and the frame cache."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from trainers.video_classification.data.cropping import scale
from trainers.video_classification.data.decoding.pyav import PyAVFrames
from trainers.video_classification.data.errors import VideoError
from trainers.video_classification.data.views import scaled_size

_MIN_DECODED = 0.5  # of a video's frames


@dataclasses.dataclass(frozen=True)
class JpegVideo:
    """All frames of a video.

    Attributes:
        frames: Encoded.
        size: (height, width).
        frame_rate: Average; 0 if unknown.
        num_bad: Frames that are lost, or in which the decoder concealed errors.
    """

    frames: list[bytes]
    size: tuple[int, int]
    frame_rate: float
    num_bad: int


def encode_video(path: str, short_side: int, quality: int) -> JpegVideo:
    """Decodes a video, and encodes its frames.

    Args:
        path: The video.
        short_side: Frames with a larger one are scaled down to it.
        quality: Of the JPEG frames, 1-100.

    Raises:
        VideoError: The video, or more than half of its frames, cannot be decoded.
    """
    video = PyAVFrames(path)
    jpegs, size, num_damaged = [], (0, 0), 0
    for _, picture in video.pictures(np.arange(video.num_frames)):
        if not jpegs:
            size = scaled_size(*picture.size, min(short_side, *picture.size))
        num_damaged += picture.is_damaged
        jpegs.append(_jpeg(scale(picture.rgb(), *size), quality))
    if len(jpegs) < _MIN_DECODED * video.num_frames:
        raise VideoError(
            path, f"only {len(jpegs)} of its {video.num_frames} frames could be decoded"
        )
    num_lost = video.num_frames - len(jpegs)
    return JpegVideo(jpegs, size, video.frame_rate, num_damaged + num_lost)


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    bgr = np.ascontiguousarray(image[..., ::-1])
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
