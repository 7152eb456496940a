"""What a path names: a video file, or a record of a shard."""

from __future__ import annotations

import os

VIDEO_SUFFIXES = frozenset(
    ".3gp .264 .265 .avi .flv .gif .h264 .h265 .hevc .m2ts .m4v .mkv .mov .mp4 .mpeg "
    ".mpg .mts .ogv .ts .vob .webm .wmv".split()
)


def has_video_suffix(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


def is_record(path: str) -> bool:
    """Whether the path is `shard.tfrecord#offset`: one record of a shard."""
    shard, _, offset = path.rpartition("#")
    return shard.endswith(".tfrecord") and offset.isdigit()
