"""The result of every index reader: videos and labels as written in the index."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterator, Sequence

from trainers.core import files
from trainers.video_classification.data.errors import DataError


@dataclasses.dataclass(frozen=True)
class Entry:
    """A video in the index; `where` (file:line) is for messages.

    `actions` are (label, start, end) in seconds, in formats that have times.
    """

    path: str
    labels: tuple[str, ...]
    name: str
    where: str
    actions: tuple[tuple[str, float, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Listing:
    """What an index lists.

    Attributes:
        entries: The videos.
        class_names: If the format defines them.
        missing: Paths that are known to be missing, beyond the entries.
        unused: Path of each file or folder that is not used -> why.
    """

    entries: list[Entry]
    class_names: Sequence[str] | None = None
    missing: tuple[str, ...] = ()
    unused: dict[str, str] = dataclasses.field(default_factory=dict)


def root_of(path: str, data) -> str:
    """The folder that the relative paths of an index file start from."""
    return data.video_root or os.path.dirname(path)


def numbered_lines(path: str) -> Iterator[tuple[str, str]]:
    """Reads (file:line, line), without blank lines and `#` comments."""
    for number, line in enumerate(files.read_lines(path), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield f"{path}:{number}", line


def csv_rows(path: str, columns: Sequence[str]) -> Iterator[tuple[str, dict]]:
    """Reads (file:line, row) from a CSV file with at least these columns.

    Raises:
        DataError: A column is missing, in the header or in a row.
    """
    reader = csv.DictReader(files.read_lines(path), skipinitialspace=True)
    lacking = [c for c in columns if c not in (reader.fieldnames or ())]
    if lacking:
        raise DataError(
            f"{path}:1: has no column {lacking[0]!r}; its header is "
            f"{','.join(reader.fieldnames or ())!r}, expected {','.join(columns)!r}."
        )
    for row in reader:
        where = f"{path}:{reader.line_num}"
        if any(row[c] is None for c in columns):
            raise DataError(f"{where}: expected {len(reader.fieldnames)} columns.")
        yield where, row
