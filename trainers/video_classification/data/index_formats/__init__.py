"""The index formats: a reader for each `index_format`.

`detect.py` recognises the format, and `listing.py` defines the `Listing` that each
reader returns. Each other module reads the formats that it is named after: `lists.py`
has `list` and `mmaction2`.
"""

from trainers.video_classification.data.index_formats.charades import read_charades
from trainers.video_classification.data.index_formats.detect import detect
from trainers.video_classification.data.index_formats.folder import read_folder
from trainers.video_classification.data.index_formats.kinetics import read_kinetics
from trainers.video_classification.data.index_formats.lists import (
    read_list,
    read_mmaction2,
)
from trainers.video_classification.data.index_formats.rawframes import (
    read_rawframes,
    read_rawframes_offset,
)
from trainers.video_classification.data.index_formats.tfrecord import read_tfrecord
from trainers.video_classification.data.index_formats.ucf101 import read_ucf101

READERS = {
    "folder": read_folder,
    "list": read_list,
    "mmaction2": read_mmaction2,
    "rawframes": read_rawframes,
    "rawframes_offset": read_rawframes_offset,
    "kinetics": read_kinetics,
    "ucf101": read_ucf101,
    "charades": read_charades,
    "tfrecord": read_tfrecord,
}

__all__ = ["READERS", "detect"]
