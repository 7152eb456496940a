"""Decodes a whole video, and describes it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np

from trainers.video_classification.data import watchdog
from trainers.video_classification.data.decoding import Frames
from trainers.video_classification.data.errors import VideoError
from trainers.video_classification.data.limits import DEFAULT_LIMITS, Limits
from trainers.video_classification.data.reading import open_frames

_NUM_HASHED = 8  # frames, spread evenly over the video


@dataclasses.dataclass(frozen=True)
class VideoFacts:
    """What decoding all frames of a video has shown.

    Attributes:
        num_frames: Frames that have packets, or JPEG data.
        num_bad: Those that are lost, or in which the decoder concealed errors.
        frame_rate: Average; 0 if unknown.
        problem: What is wrong with the number of frames of a folder; may be empty.
        digest: The same for videos that decode to the same pictures, in whatever
            container.
    """

    num_frames: int
    num_bad: int
    frame_rate: float
    digest: str
    problem: str = ""

    @property
    def seconds(self) -> float:
        """Duration; 0 if the frame rate is unknown."""
        return self.num_frames / self.frame_rate if self.frame_rate else 0.0


def inspect_video(
    path: str,
    decoder: str,
    limits: Limits = DEFAULT_LIMITS,
    frame_rate: float = 0.0,
) -> VideoFacts:
    """Decodes every frame of a video file, folder of frames or record.

    Args:
        path: See `reading.open_frames`.
        decoder: See there.
        limits: Of what reading the video may cost.
        frame_rate: Of a video whose own is unknown.

    Raises:
        VideoError: It cannot be decoded, a record's checksum is wrong, or none of
            the frames could be decoded.
    """

    problems = []

    def note(path, problem):
        problems.append(problem)

    def open_it():
        return open_frames(path, decoder, note, limits=limits, frame_rate=frame_rate)

    video = watchdog.within(path, limits.seconds, open_it)
    count, digest = video.num_frames, hashlib.sha256()
    num_decoded = num_damaged = 0
    frames = _inspected(video, digest)
    for is_damaged in watchdog.iterate(path, limits.seconds, frames):
        num_decoded += 1
        num_damaged += is_damaged
    if not num_decoded:
        raise VideoError(path, f"none of its {count} frames could be decoded")
    num_bad = num_damaged + count - num_decoded
    facts = count, num_bad, video.frame_rate, digest.hexdigest()
    return VideoFacts(*facts, problem="".join(problems))


def _inspected(video: Frames, digest) -> Iterator[bool]:
    """Whether a frame is damaged, for every frame; some are added to a digest."""
    numbers = np.linspace(0, video.num_frames - 1, _NUM_HASHED).round().astype(int)
    hashed = set(numbers.tolist())
    for number, picture in video.pictures(np.arange(video.num_frames)):
        if number in hashed:
            digest.update(repr((number, picture.size)).encode())
            digest.update(np.ascontiguousarray(picture.rgb()).tobytes())
        yield picture.is_damaged
