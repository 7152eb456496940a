"""Files of a data set that are broken are skipped, counted and named, up to a limit."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from absl import logging

from trainers.core import files
from trainers.core.errors import DataError

_MIN_ATTEMPTS = 10
_MAX_NAMED = 10


class TooManyBroken(DataError):
    """A larger fraction of the files is broken than `max_broken_fraction` allows."""


def _line(path: str, reason: str) -> str:
    return f"{files.printable(path)}: {files.printable(reason)}"


def _listed(title: str, reasons: dict[str, str]) -> list[str]:
    """Lines with the title, the files and the reasons; none without files."""
    if not reasons:
        return []
    lines = (f"  {path}: {why}" for path, why in reasons.items())
    return [title, *map(files.printable, lines)]


def log_damage(path: str, reason: str, kind: str = "video") -> None:
    """Logs that a file is used although parts of it are damaged."""
    logging.warning("A damaged %s, %s", kind, _line(path, reason))


class FailureLog:
    """Counts the files that were read and those that failed, by path.

    The decoding threads of any number of datasets share it. A file counts once,
    however often it is read.

    Args:
        max_fraction: `check` raises above this fraction of broken files.
        kind: What a file is, for messages.

    Attributes:
        failures: Path of each broken file -> why.
        damaged: Path of each file that is used although parts of it are damaged
            -> description.
        error: The exception that ended a dataset, or None. TensorFlow replaces an
            exception in a mapped Python function by its own; this is the original.
    """

    def __init__(self, max_fraction: float, kind: str = "video"):
        self.max_fraction = max_fraction
        self.kind = kind
        self.failures: dict[str, str] = {}
        self.damaged: dict[str, str] = {}
        self.error: BaseException | None = None
        self._tried: set[str] = set()
        self._num_files = 0
        self._lock = threading.Lock()

    @property
    def num_read(self) -> int:
        """Number of different files read, including the broken ones."""
        return len(self._tried)

    def expect(self, num_files: int) -> None:
        """Announces a dataset of `num_files`."""
        self._num_files = max(self._num_files, num_files)

    def attempt(self, path: str) -> None:
        """Counts a file, before it is read."""
        with self._lock:
            self._tried.add(path)

    def record(self, path: str, reason: str) -> None:
        """Counts a broken file, and logs it the first time."""
        with self._lock:
            self._tried.add(path)
            is_new = path not in self.failures
            self.failures.setdefault(path, reason)
        if is_new:
            logging.warning("Skipped a broken %s, %s", self.kind, _line(path, reason))

    def warn(self, path: str, reason: str) -> None:
        """Records a damaged but usable file, and logs it the first time."""
        with self._lock:
            is_new = path not in self.damaged
            self.damaged.setdefault(path, reason)
        if is_new:
            log_damage(path, reason, self.kind)

    def check(self) -> None:
        """Raises `TooManyBroken` if the broken fraction is above the limit.

        Judged after 10 different files, or all of them if fewer. Whatever the
        limit, raises if no file is left. Unless the limit is 0, a single broken
        file does not end a run.
        """
        with self._lock:
            broken, tried = len(self.failures), len(self._tried)
            num_files = max(self._num_files, 1)
            enough = tried >= min(_MIN_ATTEMPTS, num_files)
            none_left = broken >= num_files
            allowed = max(self.max_fraction * tried, self.max_fraction > 0)
            if (enough and broken > allowed) or none_left:
                raise TooManyBroken(self._message(broken, tried))

    def check_any_left(self, paths: Iterable[str]) -> None:
        """Raises `TooManyBroken` if all of these files are broken."""
        paths = list(paths)
        if all(path in self.failures for path in paths):
            raise TooManyBroken(
                f"None of the {len(paths)} {self.kind}s could be decoded.\n"
                + self._named()
            )

    def report(self) -> list[str]:
        """The files that are broken or damaged, as lines for the end of a run."""
        title = f"Left out {len(self.failures)} of {self.num_read} {self.kind}s that "
        lines = _listed(f"{title}could not be decoded:", self.failures)
        title = f"Used {len(self.damaged)} {self.kind}s of which some frames are "
        return lines + _listed(f"{title}damaged:", self.damaged)

    def _message(self, broken: int, tried: int) -> str:
        return (
            f"{broken} of the {tried} {self.kind}s read so far could not be decoded; "
            f"`max_broken_fraction` allows {self.max_fraction:g} of them. "
            "Repair them, remove them from the index, or raise the limit.\n"
            + self._named()
        )

    def _named(self) -> str:
        named = [f"  {_line(path, why)}" for path, why in sorted(self.failures.items())]
        if len(named) > _MAX_NAMED:
            named[_MAX_NAMED:] = [f"  ... and {len(named) - _MAX_NAMED} more"]
        return "\n".join(named)
