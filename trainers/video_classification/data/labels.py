"""Class names, and labels that are given by name or by number."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterable, Sequence

import numpy as np

from trainers.core import files
from trainers.video_classification.data.errors import DataError

_NUMBER = re.compile(r"-?\d+")
CLASS_FILE = "classes.txt"  # in a model directory: the names, in label order
_DIGEST_FILE = "classes.sha256"  # beside it, as `sha256sum` writes it
_MAX_NAMED = 10
HOW_TO_NAME = (
    "Set `class_file` of both data sets or, for TFRecords, restore index.json or write "
    "it again with prepare_video.py, which keeps finished shards."
)
_CHARADES_CODE = re.compile(r"c\d{3} ")


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


def infer_class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """The class names in a set of labels: sorted, or "0".."max" for numbers."""
    found = set(labels)
    if found and all(label.isdecimal() for label in found):
        return tuple(str(i) for i in range(max(map(int, found)) + 1))
    return tuple(sorted(found))


class LabelTable:
    """Converts a label in an index to a label number.

    A label is a class name, the code that a class name of Charades starts with
    (`c092` of `c092 Working at a table`), or a number in [0, number of classes).
    """

    def __init__(self, class_names: Sequence[str]):
        self.class_names = tuple(class_names)
        codes = {
            name[:4]: i
            for i, name in enumerate(class_names)
            if _CHARADES_CODE.match(name)
        }
        self._numbers = codes | {name: i for i, name in enumerate(class_names)}

    def number(self, label: str, where: str) -> int:
        """The number of a label; `where` (file:line) is for the error.

        Raises:
            DataError: Neither a class name nor a number in range.
        """
        if label in self._numbers:
            return self._numbers[label]
        count = len(self.class_names)
        if _NUMBER.fullmatch(label):
            if 0 <= int(label) < count:
                return int(label)
            raise DataError(
                f"{where}: label {label} is out of range; there are {count} classes, "
                f"numbered 0 to {count - 1}."
            )
        near = difflib.get_close_matches(label, self.class_names, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        if all(map(_NUMBER.fullmatch, self.class_names)):
            hint = f" The training data name their classes by numbers. {HOW_TO_NAME}"
        raise DataError(
            f"{where}: unknown class {label!r}; expected one of the {count} class "
            f"names or its number.{hint}"
        )


def clip_labels(
    actions: Sequence[tuple[int, float, float]], frames: np.ndarray, frame_rate: float
) -> list[int]:
    """The labels of a clip: of all frames from its first to its last, as PySlowFast.

    Args:
        actions: (label, start, end) in seconds.
        frames: The numbers of its frames. If it wraps around, they are in no order.
        frame_rate: Frame i is at i / frame_rate seconds.

    Example:
    >>> clip_labels([(3, 0.0, 1.0), (5, 2.5, 9.0)], np.array([24, 28, 32]), 24.0)
    [3]
    """
    rate = float(np.float32(frame_rate))  # as records store it
    times = np.arange(frames.min(), frames.max() + 1) / rate
    seen = [np.any((start <= times) & (times <= end)) for _, start, end in actions]
    return [
        label for (label, *_), is_seen in zip(actions, seen, strict=True) if is_seen
    ]
