"""Keypoint R-CNN."""

import keras
import numpy as np
from keras import ops

from keras_nonlocal.models import heads
from keras_nonlocal.models.detector import to_image_boxes
from keras_nonlocal.models.placement import STAGES
from keras_nonlocal.models.rcnn import RCNN, of_regions
from keras_nonlocal.ops import decode_keypoints
from keras_nonlocal.validation import check_positive_int


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class KeypointRCNN(RCNN):
    """Mask R-CNN for keypoints: a box, a class and K points of each object.

    Args:
        depth: As in `MaskRCNN`.
        num_classes: The background, class 0, included.
        num_keypoints: K; 17 for COCO's persons.
        head_non_local: Whether a non-local block follows every second of the 8
            convolutions in the keypoint head (Table 6), over the 14x14 positions of a
            region.
        non_local: As in `MaskRCNN`.
        convention: As in `MaskRCNN`; `"torchvision"` is `keypointrcnn_resnet50_fpn`.
        min_size: As in `MaskRCNN`.
        max_size: As in `MaskRCNN`.
        non_local_options: As in `MaskRCNN`; also of the head's blocks.
        **options: As in `MaskRCNN`.

    Call arguments: as in `MaskRCNN`.

    Returns: as in `MaskRCNN`, with `keypoints` `(B, 100, K, 3)`, x, y in the pixels of
    the resized image and visibility (always 1), and `keypoint_scores` `(B, 100, K)`,
    logits, instead of masks.

    Raises:
        ValueError: An argument outside its choices.

    Example:
    >>> model = KeypointRCNN(14, num_keypoints=3, head_non_local=True, width=8)
    >>> [x.name for x in model.keypoint_head.layers if "nonlocal" in x.name][:2]
    ['keypoint_conv2_nonlocal', 'keypoint_conv4_nonlocal']
    """

    def __init__(
        self,
        depth=50,
        num_classes=2,
        num_keypoints=17,
        head_non_local=False,
        non_local=None,
        convention="torchvision",
        min_size=800,
        max_size=1333,
        non_local_options=None,
        **options,
    ):
        check_positive_int("num_keypoints", num_keypoints, owner="KeypointRCNN")
        sizes = min_size, max_size
        arguments = depth, num_classes, non_local, convention, *sizes
        super().__init__(*arguments, non_local_options, **options)
        self.num_keypoints, self.head_non_local = num_keypoints, head_non_local
        shared = {
            key: value
            for key, value in (non_local_options or {}).items()
            if key not in STAGES
        }
        channels = 4 * self.width, 8 * self.width
        with self.policy_of_networks():
            self.keypoint_head = heads.keypoint_head(
                *channels, num_keypoints, head_non_local, shared
            )

    def get_config(self):
        config = super().get_config()
        for name in ("num_keypoints", "head_non_local"):
            config[name] = getattr(self, name)
        return config

    def networks(self, image_shape):
        """As of `RCNN`, with the keypoint head."""
        head = of_regions(self.keypoint_head, self.max_detections)
        return [*super().networks(image_shape), head]

    def predict_keypoints(self, features, boxes, training=False):
        """A heatmap of each keypoint for boxes `(B, n, 4)`.

        Returns:
            `(B, n, 56, 56, K)` float32 logits.
        """
        regions = self._regions(features, boxes, heads.MASK_BINS)
        logits = self.keypoint_head(regions, training=training)
        logits = ops.cast(logits, "float32")
        return ops.reshape(logits, (*ops.shape(boxes)[:2], *logits.shape[1:]))

    def describe_boxes(self, features, boxes, labels):
        """The keypoints in boxes, in pixels of the resized images.

        Args:
            features: P2 to P6.
            boxes: `(B, n, 4)`.
            labels: Not needed.

        Returns:
            Dict of `keypoints` `(B, n, K, 3)` and `keypoint_scores` `(B, n, K)`.
        """
        heatmaps = self.predict_keypoints(features, boxes)
        maps = ops.reshape(heatmaps, (-1, *heatmaps.shape[2:]))
        points, scores = decode_keypoints(maps, ops.reshape(boxes, (-1, 4)))
        points = ops.concatenate([points, ops.ones_like(points[..., :1])], axis=-1)
        leading = ops.shape(boxes)[:2]
        return {
            "keypoints": ops.reshape(points, (*leading, self.num_keypoints, 3)),
            "keypoint_scores": ops.reshape(scores, (*leading, self.num_keypoints)),
        }

    def to_image(self, found, size, original_size):
        """Detections of one resized image, in the pixels of the image."""
        height, width = np.float32(original_size) / np.float32(size)
        factors = np.array([width, height, 1], "float32")
        boxes = to_image_boxes(found["boxes"], size, original_size)
        keypoints = found["keypoints"] * factors
        return found | {"boxes": boxes, "keypoints": keypoints}
