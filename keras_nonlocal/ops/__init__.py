"""Functions on tensors: the non-local operation itself, without weights."""

from keras_nonlocal.ops.non_local import attention_scores, non_local
from keras_nonlocal.ops.prefix_sums import prefix_sums
from keras_nonlocal.ops.pooling import spatial_max_pool

__all__ = ["attention_scores", "non_local", "prefix_sums", "spatial_max_pool"]
