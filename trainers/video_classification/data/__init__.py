"""Video data: indexes, decoding, sampling, augmentation, batches."""

from trainers.video_classification.data.dataset import make_dataset
from trainers.video_classification.data.encode import write_video
from trainers.video_classification.data.errors import (
    DataError,
    TooManyBrokenVideos,
    VideoError,
)
from trainers.video_classification.data.failures import FailureLog
from trainers.video_classification.data.index import Index, Record, load_index
from trainers.video_classification.data.preprocessing import (
    normalize,
    resize_and_center_crop,
)
from trainers.video_classification.data.reading import read_views

__all__ = [
    "DataError",
    "FailureLog",
    "Index",
    "Record",
    "TooManyBrokenVideos",
    "VideoError",
    "load_index",
    "make_dataset",
    "normalize",
    "read_views",
    "resize_and_center_crop",
    "write_video",
]
