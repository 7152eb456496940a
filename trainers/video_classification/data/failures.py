"""Videos that cannot be decoded are skipped, counted and named, up to a limit."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from absl import logging

from trainers.core import files
from trainers.video_classification.data.errors import TooManyBrokenVideos

_MIN_ATTEMPTS = 10
_MAX_NAMED = 10


def _line(path: str, reason: str) -> str:
    return f"{files.printable(path)}: {files.printable(reason)}"


def log_damage(path: str, reason: str) -> None:
    """Logs that a video is used although some of its frames are damaged."""
    logging.warning("A damaged video, %s", _line(path, reason))


class FailureLog:
    """Counts the videos that were read and those that failed, by path.

    The decoding threads of any number of datasets share it. A video counts once,
    however often it is read.

    Args:
        max_fraction: `check` raises above this fraction of broken videos.

    Attributes:
        failures: Path of each broken video -> why.
        damaged: Path of each video that is used although some frames are damaged
            -> description.
        error: The exception that ended a dataset, or None. TensorFlow replaces an
            exception in a mapped Python function by its own; this is the original.
    """

    def __init__(self, max_fraction: float):
        self.max_fraction = max_fraction
        self.failures: dict[str, str] = {}
        self.damaged: dict[str, str] = {}
        self.error: BaseException | None = None
        self._tried: set[str] = set()
        self._num_videos = 0
        self._lock = threading.Lock()

    @property
    def num_read(self) -> int:
        """Number of different videos read, including the broken ones."""
        return len(self._tried)

    def expect(self, num_videos: int) -> None:
        """Announces a dataset of `num_videos`."""
        self._num_videos = max(self._num_videos, num_videos)

    def attempt(self, path: str) -> None:
        """Counts a video, before it is read."""
        with self._lock:
            self._tried.add(path)

    def record(self, path: str, reason: str) -> None:
        """Counts a broken video, and logs it the first time."""
        with self._lock:
            self._tried.add(path)
            is_new = path not in self.failures
            self.failures.setdefault(path, reason)
        if is_new:
            logging.warning("Skipped a broken video, %s", _line(path, reason))

    def warn(self, path: str, reason: str) -> None:
        """Records a damaged but usable video, and logs it the first time."""
        with self._lock:
            is_new = path not in self.damaged
            self.damaged.setdefault(path, reason)
        if is_new:
            log_damage(path, reason)

    def check(self) -> None:
        """Raises `TooManyBrokenVideos` if the broken fraction is above the limit.

        Judged after 10 different videos, or all of them if fewer. Whatever the
        limit, raises if no video is left. Unless the limit is 0, a single broken
        video does not end a run.
        """
        with self._lock:
            broken, tried = len(self.failures), len(self._tried)
            num_videos = max(self._num_videos, 1)
            enough = tried >= min(_MIN_ATTEMPTS, num_videos)
            none_left = broken >= num_videos
            allowed = max(self.max_fraction * tried, self.max_fraction > 0)
            if (enough and broken > allowed) or none_left:
                raise TooManyBrokenVideos(self._message(broken, tried))

    def check_any_left(self, paths: Iterable[str]) -> None:
        """Raises `TooManyBrokenVideos` if all of these videos are broken."""
        paths = list(paths)
        if all(path in self.failures for path in paths):
            raise TooManyBrokenVideos(
                f"None of the {len(paths)} videos could be decoded.\n" + self._named()
            )

    def _message(self, broken: int, tried: int) -> str:
        return (
            f"{broken} of the {tried} videos read so far could not be decoded; "
            f"`max_broken_fraction` allows {self.max_fraction:g} of them. "
            "Repair them, remove them from the index, or raise the limit.\n"
            + self._named()
        )

    def _named(self) -> str:
        named = [f"  {_line(path, why)}" for path, why in sorted(self.failures.items())]
        if len(named) > _MAX_NAMED:
            named[_MAX_NAMED:] = [f"  ... and {len(named) - _MAX_NAMED} more"]
        return "\n".join(named)
