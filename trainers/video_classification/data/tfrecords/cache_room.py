"""Keeps a frame cache within its limit: its oldest entries are removed."""

from __future__ import annotations

import re
import shutil

from trainers.core import files

_ENTRY = re.compile(r"[0-9a-f]{32}\.tfrecord")
_MIN_FREE = 0.1  # of the disk, without a limit of the user's
_STEP = 64  # a 64th of the limit is removed at once, or written before looking again


class EntryTooLarge(files.FileError):
    """An entry is larger than the whole cache may be."""


class CacheRoom:
    """Removes the oldest entries of a folder when they exceed its limit.

    Other processes may add entries and remove them; these are counted now and then.

    Args:
        folder: Files in it that are no entries are not touched.
        max_gib: Of all entries; 0 leaves 10 % of a local disk free.
    """

    def __init__(self, folder: str, max_gib: float):
        self._folder, self._limit = folder, max_gib * 2**30
        self._total = self._unseen = float("inf")  # bytes; not counted yet

    def make(self, num_bytes: int) -> None:
        """Makes room for a new entry, whose file has another name until then.

        Raises:
            EntryTooLarge: It is larger than the limit.
            FileError: The disk is full of other files.
        """
        if self._limit:
            self._keep_below_limit(num_bytes)
        elif not files.is_remote(self._folder):
            self._keep_disk_free()

    def _keep_below_limit(self, num_bytes: int) -> None:
        if num_bytes > self._limit:
            raise EntryTooLarge(
                self._folder,
                f"{num_bytes / 2**30:.2g} GiB of frames are more than "
                f"`frame_cache_gib` ({self._limit / 2**30:g}).",
            )
        self._total += num_bytes
        self._unseen += num_bytes
        step = self._limit / _STEP
        if self._total <= self._limit and self._unseen <= step:
            return
        entries = self._entries()
        self._total, self._unseen = sum(e[1] for e in entries) + num_bytes, 0
        if self._total > self._limit:
            self._total -= _remove(entries, self._total - self._limit + step)

    def _keep_disk_free(self) -> None:
        disk = shutil.disk_usage(self._folder)
        excess = _MIN_FREE * disk.total - disk.free
        if excess <= 0:
            return
        entries = self._entries()
        if sum(size for _, size, _ in entries) < excess:
            raise files.FileError(
                self._folder,
                f"less than {_MIN_FREE:.0%} of the disk is free; `frame_cache_gib` can "
                "allow more.",
            )
        _remove(entries, excess + disk.total / _STEP)

    def _entries(self) -> list[tuple[int, int, str]]:
        """(time in ns, bytes, path) of each entry, the oldest first."""
        found = []
        for name in filter(_ENTRY.fullmatch, files.listdir(self._folder)):
            path = files.join(self._folder, name)
            try:
                found.append((*files.state(path), path))
            except files.FileError:
                continue  # removed by another process
        return sorted(found)


def _remove(entries: list[tuple[int, int, str]], num_bytes: float) -> int:
    """Removes entries until they have `num_bytes`; returns how many they had."""
    removed = 0
    for _, size, path in entries:
        if removed >= num_bytes:
            break
        files.remove(path)
        removed += size
    return removed
