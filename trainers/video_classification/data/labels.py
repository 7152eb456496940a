"""Class names, and labels that are given by name or by number."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

import numpy as np

from trainers.video_classification.data.errors import DataError

_NUMBER = re.compile(r"-?\d+")
HOW_TO_NAME = (
    "Set `class_file` of both data sets or, for TFRecords, restore index.json or write "
    "it again with prepare_video.py, which keeps finished shards."
)
_CHARADES_CODE = re.compile(r"c\d{3} ")


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
