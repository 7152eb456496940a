"""Functions on tensors, without weights: the non-local operation, and detection's."""

from keras_nonlocal.ops import boxes
from keras_nonlocal.ops.anchors import pyramid_anchors
from keras_nonlocal.ops.backends import detection_kernels
from keras_nonlocal.ops.heatmaps import decode_keypoints
from keras_nonlocal.ops.masks import paste_masks
from keras_nonlocal.ops.non_local import attention_scores, non_local
from keras_nonlocal.ops.non_local_means import non_local_means
from keras_nonlocal.ops.non_max_suppression import non_max_suppression
from keras_nonlocal.ops.pairwise import ALGORITHMS, MODES
from keras_nonlocal.ops.pooling import KEY_POOL_SIZE, max_pool_3d, spatial_max_pool
from keras_nonlocal.ops.roi_align import multilevel_roi_align, roi_align

__all__ = [
    "ALGORITHMS",
    "KEY_POOL_SIZE",
    "MODES",
    "attention_scores",
    "boxes",
    "decode_keypoints",
    "detection_kernels",
    "max_pool_3d",
    "multilevel_roi_align",
    "non_local",
    "non_local_means",
    "non_max_suppression",
    "paste_masks",
    "pyramid_anchors",
    "roi_align",
    "spatial_max_pool",
]
