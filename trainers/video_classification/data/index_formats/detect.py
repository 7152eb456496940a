"""Detects the format of an index."""

import os
import re

from trainers.core import files
from trainers.video_classification.data import paths
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.index_formats.listing import numbered_lines
from trainers.video_classification.data.index_formats.rawframes import split_line
from trainers.video_classification.data.tfrecords.shard_sets import is_member

_CSV_COLUMNS = {"youtube_id": "kinetics", "actions": "charades"}


def detect(path: str, is_multilabel: bool = False) -> str:
    """The `index_format` of `path`.

    Raises:
        DataError: The path does not exist, is a single video, or is a list of several
            formats.
    """
    if path.endswith(".tfrecord"):
        return "tfrecord"
    if not files.exists(path):
        here = "" if files.is_remote(path) or os.path.isabs(path) else os.getcwd()
        start = f" Relative paths start from {here}." if here else ""
        raise DataError(f"{path}: no such file or folder; set `input_path`.{start}")
    if files.is_folder(path):
        names = files.listdir(path)
        has_shards = any(n.endswith(".tfrecord") or is_member(n) for n in names)
        return "tfrecord" if has_shards else "folder"
    if paths.has_video_suffix(path):
        raise DataError(
            f"{path}: is a single video. Give a folder with one folder per class, or "
            "an index file; to classify a video, use --mode predict."
        )
    return _detect_text(path, is_multilabel)


def _detect_text(path: str, is_multilabel: bool) -> str:
    lines = [line for line in files.read_lines(path) if line.strip()]
    if not lines:
        raise DataError(f"{path}: is empty; expected a list of videos.")
    header = [column.strip() for column in lines[0].split(",")]
    for column, index_format in _CSV_COLUMNS.items():
        if column in header:
            return index_format
    if header[0].startswith("original_vido_id"):
        raise DataError(
            f"{path}: is a list of Charades frames, which is not supported; give "
            "Charades_v1_train.csv or Charades_v1_test.csv and the videos."
        )
    beside = os.path.join(os.path.dirname(path), "classInd.txt")
    is_split = re.match(r"(train|test)list\d+\.txt$", os.path.basename(path))
    if is_split or files.exists(beside):
        return "ucf101"
    return _detect_list(path, is_multilabel)


def _detect_list(path: str, is_multilabel: bool) -> str:
    """`list`, `rawframes` or `rawframes_offset`, by the numbers after the paths."""
    first: dict[int, str] = {}  # number of numbers -> where it is first; 1: a list
    for where, line in numbered_lines(path):
        _, numbers = split_line(line) or (line, [0])
        first.setdefault(len(numbers), f"{where}: {line!r}")
    if is_multilabel and max(first, default=1) > 1:
        raise DataError(
            f"{first[max(first)]} has several numbers after a folder. Set "
            "`index_format`: `mmaction2` if all are labels, `rawframes` if the first "
            "is the number of frames, `rawframes_offset` if the first two are the "
            "start in the folder and the number of frames."
        )
    if len(first) > 1:
        one, other, *_ = first.values()
        raise DataError(
            f"{one} and {other} are lines of different formats. Expected one of "
            "`path label`, `folder frames label` and `folder start frames label` in "
            "all lines."
        )
    count = next(iter(first), 1)
    return {2: "rawframes", 3: "rawframes_offset"}.get(count, "list")
