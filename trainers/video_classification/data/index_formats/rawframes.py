"""mmaction2's lists of extracted frames: `folder [start] frames label [label ...]`."""

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

_LINE = re.compile(r"(.+?)((?:\s+[0-9]+)+)")


def read_rawframes(path: str, data) -> Listing:
    """Reads `folder frames label [label ...]`: `RawframeDataset`."""
    return _read(path, data, with_offset=False)


def read_rawframes_offset(path: str, data) -> Listing:
    """Reads `folder start frames label [label ...]`: its `with_offset=True`.

    `start` is the number of frames of the folder before those of the video.
    """
    return _read(path, data, with_offset=True)


def split_line(line: str) -> tuple[str, list[int]] | None:
    """(folder, the numbers after it); None if it has fewer than two, or is a video."""
    match = _LINE.fullmatch(line)
    if match is None or paths.has_video_suffix(match[1]):
        return None
    numbers = list(map(int, match[2].split()))
    return (match[1], numbers) if len(numbers) > 1 else None


def _read(path: str, data, with_offset: bool) -> Listing:
    root = root_of(path, data)
    lines = numbered_lines(path)
    return Listing([_entry(root, *item, data, with_offset) for item in lines])


def _entry(root: str, where: str, line: str, data, with_offset: bool) -> Entry:
    folder, numbers = split_line(line) or (line, [])
    skipped = numbers.pop(0) if with_offset and numbers else None
    num_frames, *labels = numbers or [0]
    if not num_frames or not labels or (len(labels) > 1 and not data.is_multilabel):
        expected = "folder start frames label" if with_offset else "folder frames label"
        raise DataError(
            f"{where}: expected `{expected}`, with at least one frame. Received: "
            f"{line!r}. Lists with the start of a video in its folder are "
            "`index_format: rawframes_offset`, those without are `rawframes`; with "
            "several labels, set `is_multilabel: true`."
        )
    folder = folder.rstrip("/")
    video = paths.FrameFolder(files.join(root, folder), skipped, num_frames)
    name = folder if skipped is None else f"{folder}, from {skipped}"
    return Entry(video.path, tuple(map(str, labels)), name, where)
