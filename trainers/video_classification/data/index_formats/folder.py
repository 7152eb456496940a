"""One folder per class, in sorted order."""

import os

from trainers.core import files
from trainers.video_classification.data import paths
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.index_formats.listing import Entry, Listing


def read_folder(path: str, data) -> Listing:
    """Reads `path/<class>/<video>`; hidden files and other suffixes are ignored.

    Raises:
        DataError: No such folder, no class folders, or a class without videos.
    """
    del data
    if not files.is_folder(path):
        hint = " It is a file: set `index_format: auto`." if files.exists(path) else ""
        raise DataError(f"{path}: no such folder.{hint}")
    children = _visible(path)
    classes = [c for c in children if files.is_folder(os.path.join(path, c))]
    if not classes:
        raise DataError(_no_classes(path, children))
    entries = [e for name in classes for e in _class_entries(path, name)]
    return Listing(entries, classes)


def _class_entries(path: str, name: str) -> list[Entry]:
    folder = os.path.join(path, name)
    children = _visible(folder)
    videos = [c for c in children if paths.has_video_suffix(c)]
    if videos:
        return [
            Entry(os.path.join(folder, v), (name,), f"{name}/{v}", folder)
            for v in videos
        ]
    nested = [c for c in children if files.is_folder(os.path.join(folder, c))]
    hint = f" Is {folder} the folder to give?" if nested else ""
    raise DataError(
        f"{folder}: class {name!r} has no videos (files ending in .mp4, .avi, .mkv, "
        f".webm, ...). Add some, or remove the folder.{hint}"
    )


def _no_classes(path: str, children: list[str]) -> str:
    videos = sum(map(paths.has_video_suffix, children))
    return (
        f"{path}: holds {videos} videos but no class folders. To train or test, "
        f"sort them as {os.path.join(path, '<class>', '<video>')}; to classify them, "
        "use --mode predict."
    )


def _visible(path: str) -> list[str]:
    return sorted(n for n in files.listdir(path) if not n.startswith("."))
