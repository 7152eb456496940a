"""What a path names: a video file, a folder of frames, or a record of a shard."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

VIDEO_SUFFIXES = frozenset(
    ".3gp .264 .265 .avi .flv .gif .h264 .h265 .hevc .m2ts .m4v .mkv .mov .mp4 .mpeg "
    ".mpg .mts .ogv .ts .vob .webm .wmv".split()
)


def has_video_suffix(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


class FrameFolder(NamedTuple):
    """A folder of frames that is a video; its path ends in a slash.

    `frames/v1/` are all frames of the folder. After the slash may follow how many there
    are: `#163` of 163 frames, `#12+163` of 163 frames after the first 12.

    Attributes:
        folder: Without the slash.
        skipped: Frames of the folder before those of the video; None: these are all.
        num_frames: Number of frames; None: as many as there are.
    """

    folder: str
    skipped: int | None = None
    num_frames: int | None = None

    @property
    def path(self) -> str:
        if self.num_frames is None:
            return f"{self.folder}/"
        skipped = "" if self.skipped is None else f"{self.skipped}+"
        return f"{self.folder}/#{skipped}{self.num_frames}"

    @classmethod
    def parse(cls, path: str) -> FrameFolder:
        folder, skipped, num_frames = _FRAMES.fullmatch(path).groups()
        return cls(folder, skipped and int(skipped), num_frames and int(num_frames))


_FRAMES = re.compile(r"(.*)/(?:#(?:([0-9]+)\+)?([0-9]+))?", re.DOTALL)


def is_frame_folder(path: str) -> bool:
    """Whether the path is that of a `FrameFolder`."""
    return _FRAMES.fullmatch(path) is not None


def is_video_file(path: str) -> bool:
    """Whether the path is neither that of a record nor that of a `FrameFolder`."""
    return not is_record(path) and not is_frame_folder(path)


def is_record(path: str) -> bool:
    """Whether the path is `shard.tfrecord#offset`: one record of a shard."""
    shard, _, offset = path.rpartition("#")
    return shard.endswith(".tfrecord") and offset.isdigit()
