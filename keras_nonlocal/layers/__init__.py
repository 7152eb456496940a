"""Keras layers: the non-local block for sequences, images and video."""

from keras_nonlocal.layers.base_non_local import BaseNonLocal
from keras_nonlocal.layers.batch_normalization import (
    BatchNormalization,
    FrozenBatchNorm,
)
from keras_nonlocal.layers.checks import NORMALIZATIONS, POOL_POSITIONS, SCOPES
from keras_nonlocal.layers.convolution import PaddedConv2D, PaddedConv3D
from keras_nonlocal.layers.estimation import Estimate, estimate
from keras_nonlocal.layers.non_local_1d import NonLocal1D
from keras_nonlocal.layers.non_local_2d import NonLocal2D
from keras_nonlocal.layers.non_local_3d import NonLocal3D
from keras_nonlocal.layers.non_local_block import NonLocalBlock
from keras_nonlocal.layers.pooling import (
    PaddedMaxPooling2D,
    PaddedMaxPooling3D,
    WindowMean,
)
from keras_nonlocal.layers.token_groups import TokenGroups

__all__ = [
    "BaseNonLocal",
    "BatchNormalization",
    "Estimate",
    "FrozenBatchNorm",
    "NORMALIZATIONS",
    "NonLocal1D",
    "NonLocal2D",
    "NonLocal3D",
    "NonLocalBlock",
    "POOL_POSITIONS",
    "PaddedConv2D",
    "PaddedConv3D",
    "PaddedMaxPooling2D",
    "PaddedMaxPooling3D",
    "SCOPES",
    "TokenGroups",
    "WindowMean",
    "estimate",
]
