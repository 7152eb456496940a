"""UCF101's split files: `Class/v_Class_g01_c01.avi [number from 1]`."""

import os

from trainers.core import files
from trainers.core.classes import read_class_file
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.index_formats.listing import (
    Entry,
    Listing,
    numbered_lines,
    root_of,
)


def read_ucf101(path: str, data) -> Listing:
    """Reads `trainlist01.txt` or `testlist01.txt`.

    The label is the folder of the video. A number after it must agree with
    `classInd.txt` beside the split file, which defines the order of the classes.
    """
    class_file = os.path.join(os.path.dirname(path), "classInd.txt")
    names = read_class_file(class_file) if files.exists(class_file) else None
    root = root_of(path, data)
    entries = [_entry(root, *item, names) for item in numbered_lines(path)]
    return Listing(entries, names)


def _entry(root: str, where: str, line: str, names) -> Entry:
    video, _, number = line.partition(" ")
    label = os.path.dirname(video)
    if not label:
        raise DataError(f"{where}: expected `Class/video.avi [number]`: {line!r}.")
    number = number.strip()
    if names and number and label in names and str(names.index(label) + 1) != number:
        raise DataError(f"{where}: {label} is not class {number} of classInd.txt.")
    return Entry(files.join(root, video), (label,), video, where)
