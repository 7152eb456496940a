"""Mask R-CNN."""

import keras
from keras import ops

from keras_nonlocal.models import heads
from keras_nonlocal.models.detector import to_image_boxes
from keras_nonlocal.models.rcnn import RCNN, of_regions
from keras_nonlocal.ops import detection_kernels, paste_masks


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class MaskRCNN(RCNN):
    """Mask R-CNN with non-local blocks: a box, a class and a mask of each object.

    Backbone and heads run on every backend, detection on TensorFlow. An added block is
    an exact identity at initialisation: a trained network keeps its detections.

    Args:
        depth: Of the ResNet: 50, 101 or 152; 14 and 26 for tests.
        num_classes: The background, class 0, included. 91 for COCO in torchvision's
            numbering, that of its annotations.
        non_local: None, or 1 block right before the last residual block of res4
            (Table 5), or as in `resnet_backbone`.
        convention: `"torchvision"` (`maskrcnn_resnet50_fpn`), `"torchvision_v2"` (its
            `_v2`) or `"detectron"` (the paper's network and pixels): see
            `DETECTION_CONVENTIONS`.
        min_size: Pixels of the resized image's short side.
        max_size: At most so many of the long one, where `min_size` gives way.
        non_local_options: Dict of arguments of `NonLocal2D`.
        **options: Keywords.
            `groups`, `group_width`: 32 and 8 are ResNeXt-152-32x8d's.
            `width`: Of conv1; all other widths follow it, also those of pyramid and
            heads. `normalization`: of the backbone, `"frozen"` or `"batch"`; None: as
            in the convention. `balanced_pyramid`: whether a non-local block refines the
            mean of all levels, as in Libra R-CNN. `anchor_sizes`: of P2 to P6, in
            pixels. `score_threshold`, `nms_threshold`, `max_detections`: what `detect`
            returns.
            `dtype`: policy of the networks; boxes are in float32. `name`.

    Call arguments:
        images: `(B, H, W, 3)` float32, normalised, H and W multiples of 32: see
            `preprocess` and `batch`.
        sizes: `(B, 2)` int: (height, width) of each image without padding; None: all.

    Returns: a dict of `boxes` `(B, 100, 4)`, `scores`, `labels` `(B, 100)`,
    `num_detections` `(B,)` and `masks` `(B, 100, 28, 28)`, probabilities, in the
    pixels of the resized images. `detect` takes and gives the images' own.

    Raises:
        ValueError: An argument outside its choices.

    Example:
    >>> model = MaskRCNN(14, 3, non_local={"res4": [0]}, width=8, min_size=64)
    >>> image = np.zeros((48, 64, 3), "uint8")
    >>> [found] = model.detect([image])
    >>> sorted(found)
    ['boxes', 'labels', 'masks', 'scores']

    Reference: [He et al., 2017](https://arxiv.org/abs/1703.06870)
    """

    def __init__(
        self,
        depth=50,
        num_classes=91,
        non_local=None,
        convention="torchvision",
        min_size=800,
        max_size=1333,
        non_local_options=None,
        **options,
    ):
        sizes = min_size, max_size
        arguments = depth, num_classes, non_local, convention, *sizes
        super().__init__(*arguments, non_local_options, **options)

        channels, norm = 4 * self.width, self.rules.head_normalization
        with self.policy_of_networks():
            self.mask_head = heads.mask_head(channels, num_classes, norm)

    def networks(self, image_shape):
        """As of `RCNN`, with the mask head."""
        head = of_regions(self.mask_head, self.max_detections)
        return [*super().networks(image_shape), head]

    def predict_masks(self, features, boxes, training=False):
        """A mask of each class for boxes `(B, n, 4)`: `(B, n, 28, 28, C)` logits."""
        regions = self._regions(features, boxes, heads.MASK_BINS)
        logits = ops.cast(self.mask_head(regions, training=training), "float32")
        return ops.reshape(logits, (*ops.shape(boxes)[:2], *logits.shape[1:]))

    def describe_boxes(self, features, boxes, labels):
        """The masks of boxes' own classes: `{"masks": (B, n, 28, 28)}`, probabilities.

        Args:
            features: P2 to P6.
            boxes: `(B, n, 4)`.
            labels: `(B, n)`.
        """
        logits = ops.moveaxis(self.predict_masks(features, boxes), -1, 2)
        own = detection_kernels().take_rows(logits, labels[..., None])
        return {"masks": ops.sigmoid(own[:, :, 0])}

    def to_image(self, found, size, original_size):
        """Detections of one resized image, in the pixels of the image."""
        boxes = to_image_boxes(found["boxes"], size, original_size)
        masks = paste_masks(found["masks"], boxes, original_size)
        return found | {"boxes": boxes, "masks": masks}
