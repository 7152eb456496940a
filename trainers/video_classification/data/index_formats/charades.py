"""The Charades CSV: `id,...,actions,...`, `c092 11.90 21.20;c147 0.00 12.60`."""

import math

from absl import logging

from trainers.core import files
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.index_formats.listing import (
    Entry,
    Listing,
    csv_rows,
    root_of,
)

_CLASSES = tuple(f"c{i:03d}" for i in range(157))


def read_charades(path: str, data) -> Listing:
    """Reads `<id>.mp4` with all actions in it, which may be none, and their times.

    The classes are c000-c156, even if this file does not use all of them.

    Raises:
        DataError: An action is not `class start end`, or the config is of videos with
            one label each.
    """
    if not data.is_multilabel:
        raise DataError(
            f"{path}: videos of Charades have several labels; set "
            "`is_multilabel: true`."
        )
    root = root_of(path, data)
    entries = []
    for where, row in csv_rows(path, ("id", "actions")):
        texts = filter(None, map(str.strip, row["actions"].split(";")))
        actions = tuple(_action(text, where) for text in texts)
        labels = tuple(dict.fromkeys(label for label, *_ in actions))
        name = f"{row['id']}.mp4"
        entries.append(Entry(files.join(root, name), labels, name, where, actions))
    _warn_reversed(path, entries)
    return Listing(entries, _CLASSES)


def _action(text: str, where: str) -> tuple[str, float, float]:
    """(class, start, end) of `c092 11.90 21.20`, to the microsecond."""
    try:
        label, *times = text.split()
        start, end = (round(float(time), 6) for time in times)
        if math.isfinite(start + end):
            return label, start, end
    except ValueError:
        pass
    raise DataError(
        f"{where}: an action must be a class and its start and end in seconds, such as "
        f"'c092 11.90 21.20'. Received: {text!r}."
    )


def _warn_reversed(path: str, entries: list[Entry]) -> None:
    """The official files have such actions; other programs leave them out, too."""
    actions = [action for entry in entries for action in entry.actions]
    count = sum(end < start for _, start, end in actions)
    if count:
        logging.warning(
            "%s: %d of %d actions end before they start. They are labels of their "
            "videos, but of no training clip.",
            path,
            count,
            len(actions),
        )
