"""The forms an index comes in; each reader gives a `Listing`."""

from trainers.video_classification.data.indexes.charades import read_charades
from trainers.video_classification.data.indexes.detect import detect
from trainers.video_classification.data.indexes.folder import read_folder
from trainers.video_classification.data.indexes.kinetics import read_kinetics
from trainers.video_classification.data.indexes.lists import read_list, read_mmaction2
from trainers.video_classification.data.indexes.shards import read_shards
from trainers.video_classification.data.indexes.ucf101 import read_ucf101

READERS = {
    "folder": read_folder,
    "list": read_list,
    "mmaction2": read_mmaction2,
    "kinetics": read_kinetics,
    "ucf101": read_ucf101,
    "charades": read_charades,
    "tfrecord": read_shards,
}

__all__ = ["READERS", "detect"]
