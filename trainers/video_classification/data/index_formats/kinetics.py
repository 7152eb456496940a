"""The Kinetics CSV: `label,youtube_id,time_start,time_end,split`."""

import functools
import os

from trainers.core import files
from trainers.video_classification.data import paths
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.index_formats.listing import (
    Entry,
    Listing,
    csv_rows,
    root_of,
)

_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


def read_kinetics(path: str, data) -> Listing:
    """Finds each row's `<id>_<start>_<end>.mp4` (six digits) or `<id>.mp4`.

    Searches `video_root/<label>/` and `video_root`, for any video suffix, and for
    folders of frames with these names and no suffix. Rows of other splits than
    `data.split` are left out.
    """
    root = root_of(path, data)
    listing = functools.cache(_videos_in)
    entries = []
    for where, row in csv_rows(path, _COLUMNS):
        if data.split and row.get("split", data.split) != data.split:
            continue
        found = _find(listing, root, row, where)
        entries.append(Entry(found, (row["label"],), os.path.basename(found), where))
    if data.split and not entries:
        raise DataError(f"{path}: has no row whose split is {data.split!r}.")
    return Listing(entries)


def _find(listing, root: str, row: dict, where: str) -> str:
    try:
        times = int(float(row["time_start"])), int(float(row["time_end"]))
    except ValueError as error:
        raise DataError(f"{where}: time_start and time_end are not numbers.") from error
    trimmed = f"{row['youtube_id']}_{times[0]:06d}_{times[1]:06d}"
    by_class = os.path.join(root, row["label"])
    for folder in (by_class, by_class.replace(" ", "_"), root):
        for stem in (trimmed, row["youtube_id"]):
            if stem in listing(folder):
                return os.path.join(folder, listing(folder)[stem])
    return os.path.join(by_class, f"{trimmed}.mp4")


def _videos_in(folder: str) -> dict[str, str]:
    """Name without suffix -> name, of videos and of what may be folders of frames."""
    if not files.is_folder(folder):
        return {}
    names = files.listdir(folder)
    folders = {name: name for name in names if "." not in name}
    videos = filter(paths.has_video_suffix, names)
    return folders | {os.path.splitext(name)[0]: name for name in videos}
