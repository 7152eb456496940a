"""Detects the format of an index."""

import os
import re

from trainers.core import files
from trainers.video_classification.data import paths
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.tfrecords.shard_sets import is_member

_CSV_COLUMNS = {"youtube_id": "kinetics", "actions": "charades"}


def detect(path: str) -> str:
    """The `index_format` of `path`.

    Raises:
        DataError: The path does not exist, or is a single video.
    """
    if path.endswith(".tfrecord"):
        return "tfrecord"
    if not files.exists(path):
        raise DataError(f"{path}: no such file or folder.")
    if files.is_folder(path):
        names = files.listdir(path)
        has_shards = any(n.endswith(".tfrecord") or is_member(n) for n in names)
        return "tfrecord" if has_shards else "folder"
    if paths.has_video_suffix(path):
        raise DataError(
            f"{path}: is a single video. Give a folder with one folder per class, or "
            "an index file; to classify a video, use --mode predict."
        )
    return _detect_text(path)


def _detect_text(path: str) -> str:
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
    return "ucf101" if is_split or files.exists(beside) else "list"
