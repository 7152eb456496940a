"""Functions on tensors: the non-local operation itself, without weights."""

from keras_nonlocal.ops.non_local import attention_scores, non_local
from keras_nonlocal.ops.pooling import spatial_max_pool

__all__ = ["attention_scores", "non_local", "spatial_max_pool"]
