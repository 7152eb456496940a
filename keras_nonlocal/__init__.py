"""Non-local neural networks for Keras 3 (Wang, Girshick, Gupta, He, CVPR 2018)."""

from keras_nonlocal import convert, layers, models, ops
from keras_nonlocal._version import __version__
from keras_nonlocal.layers import (
    NonLocal1D,
    NonLocal2D,
    NonLocal3D,
    NonLocalBlock,
    estimate,
)
from keras_nonlocal.models import (
    C2D,
    I3D,
    KeypointRCNN,
    MaskRCNN,
    describe,
    fold_batch_norm,
    insert_blocks,
)
from keras_nonlocal.ops import non_local_means

__all__ = [
    "C2D",
    "I3D",
    "KeypointRCNN",
    "MaskRCNN",
    "NonLocal1D",
    "NonLocal2D",
    "NonLocal3D",
    "NonLocalBlock",
    "__version__",
    "describe",
    "estimate",
    "fold_batch_norm",
    "insert_blocks",
    "non_local_means",
    "convert",
    "layers",
    "models",
    "ops",
]
