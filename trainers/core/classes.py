"""Class names in files: of a data set, and of a training."""

import hashlib
import os
from collections.abc import Sequence

from trainers.core import files
from trainers.core.errors import DataError

CLASS_FILE = "classes.txt"  # in a model directory: the names, in label order
_DIGEST_FILE = "classes.sha256"  # beside it, as `sha256sum` writes it
_MAX_NAMED = 10


def read_class_file(path: str, counted: bool = True) -> tuple[str, ...]:
    """Reads class names, one per line, in label order.

    Args:
        path: The file.
        counted: If all lines begin with their number (`1 ApplyEyeMakeup`, from 0 or
            1), remove it. False, for a file that a trainer wrote, keeps every line.

    Raises:
        DataError: The file is unreadable or empty, or has a name twice.
    """
    names = [line for line in files.read_lines(path) if line.strip()]
    if counted:
        names = _without_counts([name.strip() for name in names])
    if not names:
        raise DataError(f"{path}: holds no class names; expected one per line.")
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: class {name!r} is listed twice.")
    return tuple(names)


def _without_counts(lines: Sequence[str]) -> list[str]:
    for first in (0, 1):
        split = [line.split(maxsplit=1) for line in lines]
        if all(
            len(fields) == 2 and fields[0] == str(first + i)
            for i, fields in enumerate(split)
        ):
            return [name for _, name in split]
    return list(lines)


def write_trained_classes(model_dir, names: Sequence[str]) -> None:
    """Writes the class names of a training, and their digest."""
    files.write_text(files.join(model_dir, CLASS_FILE), _as_text(names))
    line = f"{_digest(names)}  {CLASS_FILE}\n"
    files.write_text(files.join(model_dir, _DIGEST_FILE), line)


def read_trained_classes(path: str) -> tuple[str, ...]:
    """Reads the `classes.txt` of a model directory.

    Raises:
        DataError: It is unreadable or empty, or was changed after the training.
    """
    names = read_class_file(path, counted=False)
    if not are_trained_classes(path, names):
        raise DataError(
            f"{path}: was changed after the training (its names do not have the digest "
            f"in {_DIGEST_FILE}). Line i is the name of output i of the network."
        )
    return names


def are_trained_classes(path: str, names: Sequence[str]) -> bool:
    """Whether names have the digest beside a `classes.txt`; True without a digest."""
    path = files.join(os.path.dirname(path), _DIGEST_FILE)
    saved = files.read_text(path).split() if files.is_file(path) else []
    return not saved or saved[0] == _digest(names)


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256(_as_text(names).encode()).hexdigest()


def _as_text(names: Sequence[str]) -> str:
    return "".join(f"{name}\n" for name in names)


def describe_changes(old: Sequence[str], new: Sequence[str]) -> str:
    """What differs between two class lists: names added, removed, or their order.

    Example:
    >>> describe_changes(["run", "swim"], ["jump", "run", "sit"])
    'added: jump, sit; removed: swim'
    """
    found = {
        "added": [name for name in new if name not in set(old)],
        "removed": [name for name in old if name not in set(new)],
    }
    parts = [f"{how}: {_shorten(names)}" for how, names in found.items() if names]
    return "; ".join(parts) or "the same names in another order"


def _shorten(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    listed = ", ".join(names[:_MAX_NAMED])
    return f"{listed} and {more} more" if more > 0 else listed
