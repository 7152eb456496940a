"""Sets of shards, numbered by their names: `clips-00000-of-00004.tfrecord`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

_MEMBER = re.compile(r"(.+)-\d{5}-of-(\d{5})\.(?:tfrecord|json)")


def is_member(name: str) -> bool:
    """Whether a file is named as a shard of a set, or as its JSON file."""
    return _MEMBER.fullmatch(name) is not None


def missing_shards(names: Iterable[str], pattern: str = "*.tfrecord") -> list[str]:
    """The shards that a folder lacks, by the names of the others and JSON files.

    Args:
        names: Of the files in the folder.
        pattern: Only shards that match it are looked for.

    Example:
    >>> missing_shards(["a-00000-of-00002.tfrecord", "index.json"])
    ['a-00001-of-00002.tfrecord']
    """
    names = set(names)
    sets = {match.groups() for match in map(_MEMBER.fullmatch, names) if match}
    numbered = (
        f"{prefix}-{number:05d}-of-{count}.tfrecord"
        for prefix, count in sets
        for number in range(int(count))
    )
    wanted = (name for name in numbered if fnmatch.fnmatchcase(name, pattern))
    return sorted(set(wanted) - names)
