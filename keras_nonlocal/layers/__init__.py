"""Keras layers: the non-local block for sequences, images and video."""

from keras_nonlocal.layers.batch_normalization import BatchNormalization
from keras_nonlocal.layers.non_local_1d import NonLocal1D
from keras_nonlocal.layers.non_local_2d import NonLocal2D
from keras_nonlocal.layers.non_local_3d import NonLocal3D
from keras_nonlocal.layers.non_local_block import NonLocalBlock

__all__ = [
    "BatchNormalization",
    "NonLocal1D",
    "NonLocal2D",
    "NonLocal3D",
    "NonLocalBlock",
]
