"""The videos that are to be predicted: files, folders, patterns, or live input."""

import collections
import contextlib
import dataclasses
import functools
import glob
import itertools
import os
import time
from collections.abc import Iterator

import tensorflow as tf

from trainers.core import files
from trainers.core.errors import UserError
from trainers.video_classification import timeline
from trainers.video_classification.data.decoding import is_live
from trainers.video_classification.data.decoding.frame_folder import has_frames
from trainers.video_classification.data.paths import FrameFolder, has_video_suffix

_MAGIC = frozenset("*?[")


@dataclasses.dataclass(eq=False)
class Video:
    """A video to predict.

    Attributes:
        path: A file, a folder of frames ending in a slash, or a live input.
        name: Of its files in the output folder, without their endings.
        problem: Why it cannot be read, if that is known already.
    """

    path: str
    name: str
    problem: str = ""

    @functools.cached_property
    def size(self) -> int:
        """Kilobytes, for the progress."""
        with contextlib.suppress(files.FileError, OSError):
            if not self.path.endswith("/"):
                return max(files.state(self.path)[1] // 1000, 1)
            with os.scandir(self.path) as entries:
                return max(sum(e.stat().st_size for e in entries) // 1000, 1)
        return 1


def find_videos(paths, output_dir: str = "") -> list[Video]:
    """The videos among paths, in folders and of patterns; each once.

    A path without a video is a `Video` with a `problem`. Videos that `predict` wrote
    to `output_dir` are left out.

    Raises:
        UserError: The results of two videos would have the same name.
    """
    found = {}
    for path in itertools.chain.from_iterable(map(_expanded, map(os.fspath, paths))):
        for video in _videos_at(path):
            if not _is_annotated(video.path, output_dir):
                found.setdefault(video.path, video)
    stems = collections.Counter(os.path.splitext(v.name)[0] for v in found.values())
    for video in found.values():
        stem, _ = os.path.splitext(video.name)
        video.name = stem if stems[stem] == 1 else video.name
    videos = {video.name: video for video in found.values()}
    for video in found.values() if output_dir else ():
        if videos[video.name] is not video:
            raise UserError(
                f"{files.printable(video.path)} and "
                f"{files.printable(videos[video.name].path)} would be written to the "
                f"same files of --output_dir, {files.printable(video.name)}.*: predict "
                "them in two runs, or give the folder that both are in."
            )
    return list(found.values())


def _expanded(path: str) -> list[str]:
    """The paths of a pattern, or the path itself."""
    if not _MAGIC & set(path) or is_live(path) or files.exists(path.rstrip("/")):
        return [path]
    if files.is_remote(path):
        return sorted(files.glob(path)) or [path]
    return sorted(glob.glob(path, recursive=True)) or [path]


def _videos_at(path: str) -> Iterator[Video]:
    if is_live(path):
        yield Video(path, _live_name(path))
        return
    name = os.path.basename(path.rstrip("/"))
    try:
        videos, problem = _search(path)
    except files.FileError as error:
        videos, problem = [], error.reason
    if problem:
        yield Video(path, name, problem)
    for video in videos:
        inside = os.path.relpath(video, path)
        yield Video(video, name if inside == "." else inside)


def _search(path: str) -> tuple[list[str], str]:
    """The videos at a path, or why there are none."""
    if not files.is_folder(path):
        return [path], ""
    walk = tf.io.gfile.walk if files.is_remote(path) else os.walk
    found = sorted(v for f, _, names in walk(path) for v in _videos_in(f, names))
    problem = (
        "this folder holds no videos (.mp4, .avi, .mkv, .webm, ..., or folders of "
        "frames: img_00001.jpg, ...)."
    )
    return found, "" if found else problem


def _videos_in(folder, names):
    """The paths of the videos in a folder, or that of the folder if it has frames."""
    videos = [files.join(folder, name) for name in names if has_video_suffix(name)]
    if not videos and has_frames(folder):
        return [FrameFolder(folder.rstrip("/")).path]
    return videos


def _live_name(path: str) -> str:
    """A new name for each run, since what is watched is new."""
    place = "stdin" if path == "-" else os.path.basename(path.rstrip("/")) or "live"
    place = "".join(c if c.isalnum() else "_" for c in place.partition("?")[0])
    return f"{place}-{time.strftime('%Y%m%dT%H%M%S')}"


def _is_annotated(path: str, output_dir: str) -> bool:
    if not output_dir or not path.endswith(timeline.ANNOTATED):
        return False
    folder = os.path.abspath(output_dir)
    return os.path.commonpath([folder, os.path.abspath(path)]) == folder
