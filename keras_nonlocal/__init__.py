"""Non-local neural networks for Keras 3 (Wang, Girshick, Gupta, He, CVPR 2018)."""

from keras_nonlocal import layers, ops
from keras_nonlocal._version import __version__
from keras_nonlocal.layers import NonLocal1D, NonLocal2D, NonLocal3D, NonLocalBlock

__all__ = [
    "NonLocal1D",
    "NonLocal2D",
    "NonLocal3D",
    "NonLocalBlock",
    "__version__",
    "layers",
    "ops",
]
