"""The videos of a data set and their labels, read from any index format."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trainers.core import files
from trainers.core.classes import read_class_file
from trainers.core.errors import warn
from trainers.video_classification.data import index_formats, paths
from trainers.video_classification.data.decoding import check_decoder
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.labels import (
    HOW_TO_NAME,
    LabelTable,
    infer_class_names,
)

if TYPE_CHECKING:
    from trainers.video_classification.data.configs import DataConfig

_MAX_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Video:
    """A video of a data set.

    Attributes:
        path: Of its file, folder of frames or record.
        labels: The numbers of all its labels.
        name: For reports.
        actions: (label, start, end) in seconds; empty if the format has no times.
    """

    path: str
    labels: tuple[int, ...]
    name: str
    actions: tuple[tuple[int, float, float], ...] = dataclasses.field(
        default=(), repr=False
    )


@dataclasses.dataclass(frozen=True)
class Index:
    """All videos of a data set.

    Attributes:
        videos: Those that exist.
        class_names: In label order.
        format: The `index_format` it was read as.
        path: The `input_path` it was read from.
        missing: Paths that the index lists but that do not exist.
        unused: Path of each file or folder in the data that is not used -> why.
    """

    videos: tuple[Video, ...]
    class_names: tuple[str, ...]
    format: str
    path: str
    missing: tuple[str, ...] = ()
    unused: dict[str, str] = dataclasses.field(default_factory=dict, compare=False)

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def num_videos_by_class(self) -> np.ndarray:
        """Number of the videos that have each label, `(K,)`."""
        labels = [label for video in self.videos for label in video.labels]
        return np.bincount(labels, minlength=len(self.class_names))

    @functools.cached_property
    def digest(self) -> str:
        """Differs if `lines` differ."""
        return hashlib.sha256(json.dumps(self.lines()).encode()).hexdigest()

    def lines(self) -> list[str]:
        """The videos and their labels as text, to be compared."""
        return [f"{v.path} ({_labels(v)})" for v in self.videos]

    def named(self, path: str, reason: str) -> str:
        """A reason, with the name of the video if its path is that of a record."""
        name = self._record_names.get(path)
        return f"{reason} ({name})" if name else reason

    @functools.cached_property
    def _record_names(self) -> dict[str, str]:
        return {v.path: v.name for v in self.videos if paths.is_record(v.path)}


def _labels(video: Video) -> str:
    """For example `labels 3, 1; label 1 from 0.5 to 2.0 s`."""
    numbers = ", ".join(map(str, video.labels)) or "none"
    parts = [f"label{'s' * (len(video.labels) != 1)} {numbers}"]
    parts += [f"label {x} from {start} to {end} s" for x, start, end in video.actions]
    return "; ".join(parts)


def load_index(data: DataConfig, class_names: Sequence[str] | None = None) -> Index:
    """Reads the index at `data.input_path`.

    Args:
        data: `input_path`, `index_format`, `video_root`, `class_file`, `split`,
            `is_multilabel` and `decoder` are used.
        class_names: Of the model, in label order. None: taken from `class_file`,
            else from the index itself.

    Raises:
        DataError: It cannot be read, a label is unknown or out of range, a class
            folder is empty, or none of the videos exists. The message names the
            file and the line.
    """
    if data.enable_tf_data_service:  # its workers must find the same paths
        data = data.from_any_folder()
    path = data.input_path
    if not isinstance(path, str) or not path:
        raise DataError(
            f"`input_path` must name an index file, a folder or a glob of shards. "
            f"Received: {path!r}."
        )
    check_decoder(data.decoder)  # tensorflow-io brings file systems, too
    name = data.index_format
    if name == "auto":
        name = index_formats.detect(path, data.is_multilabel)
    if name not in index_formats.READERS:
        raise DataError(
            "Unknown `index_format`. Expected one of "
            f"{('auto', *index_formats.READERS)}. Received: {name!r}."
        )
    listing = index_formats.READERS[name](path, data)
    if not listing.entries:
        raise DataError(f"{path}: lists no videos (read as {name!r}).")
    names = _class_names(listing, name, data, class_names)
    videos = _resolve(listing.entries, LabelTable(names), data.is_multilabel)
    present, missing = _split_missing(videos)
    if not present:
        raise DataError(_nothing_found(path, missing, data))
    if missing:
        _warn_of_missing(path, missing, len(videos))
    missing = *listing.missing, *missing
    return Index(present, tuple(names), name, path, missing, listing.unused)


def _class_names(listing, name, data, given) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    if data.class_file:
        return read_class_file(data.class_file)
    if listing.class_names is not None:
        return tuple(listing.class_names)
    if name == "tfrecord":
        warn(
            f"{data.input_path}: has no class names, which index.json and the JSON "
            "files beside the shards list; its classes have numbers for names. "
            f"{HOW_TO_NAME}"
        )
    return infer_class_names(label for e in listing.entries for label in e.labels)


def _resolve(entries, table: LabelTable, is_multilabel: bool) -> list[Video]:
    videos = []
    for entry in entries:
        if not is_multilabel and len(entry.labels) != 1:
            raise DataError(
                f"{entry.where}: has {len(entry.labels)} labels; expected one. Set "
                "`is_multilabel: true` if a video may have several, or none."
            )
        labels = {table.number(label, entry.where): None for label in entry.labels}
        actions = tuple(
            (table.number(label, entry.where), *times)
            for label, *times in entry.actions
        )
        videos.append(Video(entry.path, tuple(labels), entry.name, actions))
    return videos


def _split_missing(videos) -> tuple[tuple[Video, ...], tuple[str, ...]]:
    present, missing = [], []
    for video in videos:
        # Looking for every file in a remote store takes hours: only the first is.
        is_skipped = files.is_remote(video.path) and (present or missing)
        if paths.is_record(video.path) or is_skipped:
            present.append(video)
        elif path := _find(video.path):
            present.append(dataclasses.replace(video, path=path))
        else:
            missing.append(video.path)
    return tuple(present), tuple(missing)


def _find(path: str) -> str | None:
    """The path of a file or of a folder of frames, which may replace the file.

    `a/v1.mp4`, if there is no such file, is the folder of frames `a/v1`; on a remote
    file system, only a slash at the end of a path makes it a folder.
    """
    if paths.is_frame_folder(path):
        folder = paths.FrameFolder.parse(path).folder
        return path if files.is_folder(folder) else None
    folder = os.path.splitext(path)[0] if paths.has_video_suffix(path) else path
    if folder != path and files.exists(path):
        return path
    if not files.is_remote(folder) and files.is_folder(folder):
        return paths.FrameFolder(folder).path
    return path if files.exists(path) else None


def _warn_of_missing(path: str, missing: Sequence[str], total: int) -> None:
    named = ", ".join(map(files.printable, missing[:_MAX_NAMED]))
    more = ", ..." if len(missing) > _MAX_NAMED else ""
    warn(
        f"{path}: {len(missing)} of the {total} videos listed do not exist and are "
        f"left out: {named}{more}"
    )


def _nothing_found(path: str, missing: Sequence[str], data: DataConfig) -> str:
    return (
        f"{path}: none of the {len(missing)} videos listed exists; the first is "
        f"{files.printable(missing[0])}. Relative paths start from `video_root` "
        f"({data.video_root!r}), or from the folder of the index if that is empty."
    )
