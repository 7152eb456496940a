"""The Charades CSV: `id,...,actions,...`, `c092 11.90 21.20;c147 0.00 12.60`."""

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
    """Reads `<id>.mp4` with all actions in it, which may be none.

    The classes are c000-c156, even if this file does not use all of them.
    """
    if not data.is_multilabel:
        raise DataError(
            f"{path}: videos of Charades have several labels; set "
            "`is_multilabel: true`."
        )
    root = root_of(path, data)
    entries = []
    for where, row in csv_rows(path, ("id", "actions")):
        actions = filter(None, map(str.strip, row["actions"].split(";")))
        labels = tuple(dict.fromkeys(action.split()[0] for action in actions))
        name = f"{row['id']}.mp4"
        entries.append(Entry(files.join(root, name), labels, name, where))
    return Listing(entries, _CLASSES)
