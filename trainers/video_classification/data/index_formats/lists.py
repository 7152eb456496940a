"""Text files of `path label`: PySlowFast's, video-nonlocal-net's, mmaction2's.

A path may be that of a folder of frames; on a remote file system, with a slash at its
end.
"""

import re

from trainers.core import files
from trainers.video_classification.data import paths
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.index_formats.listing import (
    Entry,
    Listing,
    numbered_lines,
    root_of,
)
from trainers.video_classification.data.index_formats.rawframes import split_line

# Everything up to a video suffix is the path, so paths may contain spaces and
# commas; a path without such a suffix ends at the last separator.
_SUFFIX = "|".join(re.escape(s) for s in sorted(paths.VIDEO_SUFFIXES))
_LINE = re.compile(rf"^(.+(?:{_SUFFIX}))\s*[\s,]\s*(.*)$", re.IGNORECASE)
_LAST = re.compile(r"^(.+?)\s*[\s,]\s*([^\s,]+)$")
_SEPARATOR = re.compile(r"[\s,]+")
_HEADERS = ("path,label", "path label", "file,label", "filename,label", "video,label")


def read_list(path: str, data) -> Listing:
    """Reads `path label`, separated by space, tab or comma.

    If `is_multilabel` is set, a line may have any number of labels, as in
    `read_mmaction2`. Otherwise all text after the path is the label: a name, which
    may contain spaces, or a number. Several numbers are refused.
    """
    if data.is_multilabel:
        return read_mmaction2(path, data)
    root = root_of(path, data)
    return Listing([_entry(root, *item, split=False) for item in _items(path)])


def read_mmaction2(path: str, data) -> Listing:
    """Reads `path label [label ...]`: `VideoDataset`."""
    root = root_of(path, data)
    return Listing([_entry(root, *item, split=True) for item in _items(path)])


def _items(path: str):
    for number, (where, line) in enumerate(numbered_lines(path)):
        if number == 0 and line.lower() in _HEADERS:
            continue
        yield where, line


def _entry(root: str, where: str, line: str, split: bool) -> Entry:
    if split and (found := split_line(line)):  # a folder of frames
        folder, labels = found
        return Entry(files.join(root, folder), tuple(map(str, labels)), folder, where)
    video, label = (field.strip("\"' \t") for field in _split_line(where, line))
    if split:
        labels = tuple(filter(None, _SEPARATOR.split(label)))
    elif label:
        _refuse_several_numbers(where, line, label)
        labels = (label,)
    else:
        raise DataError(
            f"{where}: has no label; expected `path label`, separated by space, tab "
            f"or comma. Received: {line!r}."
        )
    return Entry(files.join(root, video), labels, video, where)


def _split_line(where: str, line: str) -> tuple[str, str]:
    """(path, the rest), which is empty for a line that is a path alone."""
    if match := _LINE.match(line):
        return match.groups()
    match = _LAST.match(line)
    if match is None or paths.has_video_suffix(line.strip("\"'")):
        return line, ""
    _refuse_raw_frames(where, line)
    return match.groups()


def _refuse_several_numbers(where: str, line: str, label: str) -> None:
    fields = _SEPARATOR.split(label)
    if len(fields) > 1 and all(field.isdecimal() for field in fields):
        raise DataError(
            f"{where}: {len(fields)} numbers follow the path, expected one label: "
            f"{line!r}. If all of them are labels (`index_format: mmaction2`), set "
            "`is_multilabel: true`. If only the last is (PySlowFast's `path frames "
            "label`), remove the others."
        )


def _refuse_raw_frames(where: str, line: str) -> None:
    if split_line(line):
        raise DataError(
            f"{where}: has several numbers after a folder: {line!r}. In a list of raw "
            "frames (`folder frames label`), all lines are such: set `index_format: "
            "rawframes`, or `rawframes_offset` for `folder start frames label`."
        )
