"""What reading one video file may cost."""

from __future__ import annotations

import dataclasses

from trainers.video_classification.data.errors import VideoError


@dataclasses.dataclass(unsafe_hash=True)
class Limits:
    """What one video file may have or take; a file above a limit counts as broken.

    Attributes:
        pixels: Height times width of its frames. The default is above 8K.
        frames: Number of its frames. The default is 11 hours at 25 per second.
        bytes: Size of the file. A remote file is held in memory while it is read.
        seconds: Time to read the frames of a sample; where a whole video is read
            (`frame_cache`, `prepare_video.py`), the time for 100 of its frames.
    """

    pixels: int = 2**25
    frames: int = 1_000_000
    bytes: int = 2**32
    seconds: float = 60.0


DEFAULT_LIMITS = Limits()


def too_much(path: str, found: str, field: str, limit: float) -> VideoError:
    """The error of a file that is above a limit.

    Args:
        path: The file.
        found: What was found, such as "has 2000 frames".
        field: Of `Limits`.
        limit: Its value.
    """
    return VideoError(
        path,
        f"{found} (limits.{field}={limit}). To use the video, raise "
        f"task.train_data.limits.{field}, or that of validation_data.",
    )
