"""From annotated images to batches of Mask R-CNN and Keypoint R-CNN. In reading order:

- `configs.py`: `DataConfig`, with its checks.
- `index.py`: the images of a data set, its classes and keypoints. `coco.py` reads
  COCO's JSON, `records.py` the Model Garden's TFRecords.
- `dataset.py`: batches, from samples that `samples.py` reads by their number.
- `sampling.py`: the image of a sample. `images.py`: decodes it. `objects.py`: its
  objects as arrays.
"""

from trainers.detection.data.coco import AnnotatedImage, Annotation
from trainers.detection.data.dataset import make_dataset
from trainers.detection.data.images import IMAGE_SUFFIXES, ImageError, read_image
from trainers.detection.data.index import BACKGROUND, Index, load_index

__all__ = [
    "BACKGROUND",
    "IMAGE_SUFFIXES",
    "AnnotatedImage",
    "Annotation",
    "ImageError",
    "Index",
    "load_index",
    "make_dataset",
    "read_image",
]
