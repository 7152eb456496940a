"""The videos that could not be decoded: skipped, counted, named, limited."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import logging

from trainers.video_classification.data.errors import TooManyBrokenVideos

if TYPE_CHECKING:
    from trainers.video_classification.data.index import Record

_MIN_ATTEMPTS = 10
_MAX_NAMED = 10


def log_damage(path: str, reason: str) -> None:
    """Logs that a video is used although some of its frames are made up."""
    logging.warning("A damaged video, %s: %s", path, reason)


class FailureLog:
    """Counts the videos that were tried and the ones that failed, by path.

    Shared by the decoding threads of any number of datasets. A video counts
    once however often it is read.

    Args:
        max_fraction: `check` raises above this fraction of broken videos.

    Attributes:
        failures: Path of each broken video -> why.
        damaged: Path of each video that is used although some frames had to be
            made up -> what happened.
        error: The exception that ended a dataset, if one did. TensorFlow turns
            what a mapped Python function raises into an error of its own; this
            is the original.
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
        """How many different videos were tried, the broken ones included."""
        return len(self._tried)

    def expect(self, num_videos: int) -> None:
        """Says that a dataset of `num_videos` is about to be read."""
        self._num_videos = max(self._num_videos, num_videos)

    def attempt(self, path: str) -> None:
        """Counts a video that is about to be read."""
        with self._lock:
            self._tried.add(path)

    def record(self, path: str, reason: str) -> None:
        """Counts a broken video, and logs it the first time."""
        with self._lock:
            self._tried.add(path)
            is_new = path not in self.failures
            self.failures.setdefault(path, reason)
        if is_new:
            logging.warning("Skipped a broken video, %s: %s", path, reason)

    def warn(self, path: str, reason: str) -> None:
        """Notes a damaged but usable video, and logs it the first time."""
        with self._lock:
            is_new = path not in self.damaged
            self.damaged.setdefault(path, reason)
        if is_new:
            log_damage(path, reason)

    def check(self) -> None:
        """Raises `TooManyBrokenVideos` once that is clear.

        It is clear after 10 different videos, or all of them if fewer; and
        whatever the limit, when there is no other video left. Unless the limit
        is 0, one broken video alone does not end a run.
        """
        with self._lock:
            broken, tried = len(self.failures), len(self._tried)
            num_videos = max(self._num_videos, 1)
            enough = tried >= min(_MIN_ATTEMPTS, num_videos)
            none_left = broken >= num_videos
            allowed = max(self.max_fraction * tried, self.max_fraction > 0)
            if (enough and broken > allowed) or none_left:
                raise TooManyBrokenVideos(self._message(broken, tried))

    def check_any_left(self, records: Sequence[Record]) -> None:
        """Raises `TooManyBrokenVideos` if every one of these is broken."""
        if all(record.path in self.failures for record in records):
            raise TooManyBrokenVideos(
                f"Not one of the {len(records)} videos could be decoded.\n"
                + self._named()
            )

    def _message(self, broken: int, tried: int) -> str:
        return (
            f"{broken} of the {tried} videos read so far could not be decoded; "
            f"`max_broken_fraction` allows {self.max_fraction:g} of them. "
            "Repair them, take them out of the index, or raise the limit.\n"
            + self._named()
        )

    def _named(self) -> str:
        named = [f"  {path}: {why}" for path, why in sorted(self.failures.items())]
        if len(named) > _MAX_NAMED:
            named[_MAX_NAMED:] = [f"  ... and {len(named) - _MAX_NAMED} more"]
        return "\n".join(named)
