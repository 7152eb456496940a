"""Networks for video and for images, with non-local blocks."""

from keras_nonlocal.models.architectures import ARCHITECTURES, DETECTORS, build
from keras_nonlocal.models.backbone import BACKBONE_NORMALIZATIONS, resnet_backbone
from keras_nonlocal.models.batch_norm_folding import fold_batch_norm
from keras_nonlocal.models.c2d import C2D
from keras_nonlocal.models.complexity import Macs
from keras_nonlocal.models.conventions import CONVENTIONS, Convention
from keras_nonlocal.models.description import Description, describe
from keras_nonlocal.models.fpn import (
    FPN_NORMALIZATIONS,
    balanced_pyramid,
    feature_pyramid,
)
from keras_nonlocal.models.fully_convolutional import fully_convolutional
from keras_nonlocal.models.i3d import I3D
from keras_nonlocal.models.inflation import TEMPORAL_KERNELS
from keras_nonlocal.models.insertion import insert_blocks
from keras_nonlocal.models.keypoint_rcnn import KeypointRCNN
from keras_nonlocal.models.mask_rcnn import MaskRCNN
from keras_nonlocal.models.placement import STAGES, place
from keras_nonlocal.models.rcnn_conventions import (
    DETECTION_CONVENTIONS,
    DetectionConvention,
)
from keras_nonlocal.models.resnet import DEPTHS, EXPANSION
from keras_nonlocal.models.video_resnet import STEMS

__all__ = [
    "ARCHITECTURES",
    "BACKBONE_NORMALIZATIONS",
    "C2D",
    "CONVENTIONS",
    "Convention",
    "DEPTHS",
    "DETECTION_CONVENTIONS",
    "DETECTORS",
    "Description",
    "DetectionConvention",
    "EXPANSION",
    "FPN_NORMALIZATIONS",
    "I3D",
    "KeypointRCNN",
    "Macs",
    "MaskRCNN",
    "STAGES",
    "STEMS",
    "TEMPORAL_KERNELS",
    "balanced_pyramid",
    "build",
    "describe",
    "feature_pyramid",
    "fold_batch_norm",
    "fully_convolutional",
    "insert_blocks",
    "place",
    "resnet_backbone",
]
