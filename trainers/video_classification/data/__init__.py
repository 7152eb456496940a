"""From an index of videos to batches of clips. In reading order:

- `configs.py`: `DataConfig` and `ClipConfig`, with their checks.
- `index.py`: the videos and their labels. `index_formats/` has a module for each
  `index_format`, `labels.py` turns labels into numbers, `paths.py` recognises the
  paths of videos, folders of frames and records.
- `dataset.py`: batches, from samples that `samples.py` reads by their number.
- `service.py`: batches that the processes of a tf.data service make, which run
  `service_worker.py`.
- `sampling.py`: the video and the frames of a sample. `views.py`: the clips and
  windows cut from a video. `reading.py`: decodes and cuts them.
- `windows.py`: sliding windows over long videos and live input.
- `decoding/`: video files, live input or folders of images, to frames. `images.py`: one
  image. `tfrecords/`: records of JPEG frames, shards of them, and the frame cache.
- `cropping.py`: windows of a frame. `augmentation.py`: RandAugment, mixup and CutMix,
  with their settings in `augmentation_configs.py`. `preprocessing.py`: from uint8 to
  the network's input.
- `errors.py`: videos that cannot be decoded. `limits.py`, `watchdog.py`: what reading
  one may cost. `encoding.py`: writes videos, for demo and tests.
"""

from trainers.core.failures import FailureLog, TooManyBroken
from trainers.video_classification.data.dataset import make_dataset
from trainers.video_classification.data.encoding import write_video
from trainers.video_classification.data.errors import DataError, VideoError
from trainers.video_classification.data.index import Index, Video, load_index
from trainers.video_classification.data.preprocessing import (
    crop_transform,
    normalize,
    resize_and_center_crop,
)
from trainers.video_classification.data.reading import read_views

__all__ = [
    "DataError",
    "FailureLog",
    "Index",
    "TooManyBroken",
    "Video",
    "VideoError",
    "crop_transform",
    "load_index",
    "make_dataset",
    "normalize",
    "read_views",
    "resize_and_center_crop",
    "write_video",
]
