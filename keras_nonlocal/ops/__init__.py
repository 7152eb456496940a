"""Functions on tensors: the non-local operation itself, without weights."""

from keras_nonlocal.ops.non_local import attention_scores, non_local
from keras_nonlocal.ops.pairwise import ALGORITHMS, MODES
from keras_nonlocal.ops.pooling import KEY_POOL_SIZE, spatial_max_pool

__all__ = [
    "ALGORITHMS",
    "KEY_POOL_SIZE",
    "MODES",
    "attention_scores",
    "non_local",
    "spatial_max_pool",
]
