"""One folder per class, in sorted order."""

import os

from trainers.core import files
from trainers.video_classification.data import paths
from trainers.video_classification.data.decoding.frame_folder import has_frames
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.index_formats.listing import Entry, Listing


def read_folder(path: str, data) -> Listing:
    """Reads `path/<class>/<video>`: files, and folders of frames; others are `unused`.

    Raises:
        DataError: No such folder, no class folders, or a class without videos.
    """
    del data
    if not files.is_folder(path):
        hint = " It is a file: set `index_format: auto`." if files.exists(path) else ""
        raise DataError(f"{path}: no such folder.{hint}")
    children = _children(path)
    classes = [
        c
        for c in children
        if not _is_hidden(c) and files.is_folder(os.path.join(path, c))
    ]
    if not classes:
        raise DataError(_no_classes(path, children))
    entries, unused = [], _unused(path, children, classes, "not in a class folder")
    for name in classes:
        found, left_out = _read_class(path, name)
        entries += found
        unused |= left_out
    return Listing(entries, classes, unused=unused)


def _read_class(path: str, name: str) -> tuple[list[Entry], dict[str, str]]:
    """(entries, unused) of a class folder."""
    folder = os.path.join(path, name)
    children = _children(folder)
    visible = [c for c in children if not _is_hidden(c)]
    videos = [c for c in visible if paths.has_video_suffix(c)]
    stems = {os.path.splitext(video)[0]: video for video in videos}
    rest = [c for c in visible if c not in videos]
    nested = [c for c in rest if files.is_folder(os.path.join(folder, c))]
    frames = [c for c in nested if has_frames(os.path.join(folder, c))]
    places = {v: os.path.join(folder, v) for v in videos}
    for child in frames:
        if child not in stems:
            places[child] = paths.FrameFolder(os.path.join(folder, child)).path
    if not places:
        raise DataError(_no_videos(folder, name, nested))
    entries = [
        Entry(place, (name,), f"{name}/{child}", folder)
        for child, place in sorted(places.items())
    ]
    unused = _unused(folder, children, list(places), "no suffix of a video")
    for child in nested:
        path = os.path.join(folder, child)
        if path in unused:
            beside = f"beside {stems[child]}, which is used" if child in stems else ""
            unused[path] = beside or "a folder without frames"
    return entries, unused


def _no_videos(folder: str, name: str, nested: list[str]) -> str:
    hint = f" Is {folder} the folder to give?" if nested else ""
    if has_frames(folder):
        hint = " Frames of a video go into a folder of their own in it."
    return (
        f"{folder}: class {name!r} has no videos (files ending in .mp4, .avi, .mkv, "
        f".webm, ..., or folders of frames). Add some, or remove the folder.{hint}"
    )


def _unused(
    folder: str, children: list[str], used: list[str], reason: str
) -> dict[str, str]:
    """Path of each file or folder in a folder that is not used -> why."""
    found = dict.fromkeys(files.list_undecodable(folder), "its name is not UTF-8")
    for name in sorted(set(children).difference(used)):
        found[name] = "hidden" if _is_hidden(name) else reason
    return {os.path.join(folder, name): why for name, why in found.items()}


def _no_classes(path: str, children: list[str]) -> str:
    videos = sum(not _is_hidden(c) and paths.has_video_suffix(c) for c in children)
    return (
        f"{path}: holds {videos} videos but no class folders. To train or test, "
        f"sort them as {os.path.join(path, '<class>', '<video>')}; to classify them, "
        "use --mode predict."
    )


def _children(path: str) -> list[str]:
    return sorted(files.listdir(path))


def _is_hidden(name: str) -> bool:
    return name.startswith(".")
