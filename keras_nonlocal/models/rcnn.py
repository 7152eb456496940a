"""What Mask R-CNN and Keypoint R-CNN share: proposals and boxes."""

import contextlib

import keras
from keras import ops

from keras_nonlocal.models import heads, proposals
from keras_nonlocal.models.backbone import resnet_backbone
from keras_nonlocal.models.detector import Detector
from keras_nonlocal.models.fpn import balanced_pyramid, feature_pyramid
from keras_nonlocal.models.rcnn_conventions import DETECTION_CONVENTIONS
from keras_nonlocal.ops import multilevel_roi_align, pyramid_anchors
from keras_nonlocal.ops.anchors import RATIOS
from keras_nonlocal.validation import check_choice, check_positive_int, invalid_argument

LEVELS = range(2, 7)  # of the pyramid; level k has a stride of 2**k pixels
POOLED = 4  # levels that boxes take features from
PROPOSALS = {True: 2000, False: 1000}  # by `training`: of each level, and of an image


class RCNN(Detector):
    """Backbone, feature pyramid, proposals and boxes; see `MaskRCNN`.

    `backbone` (with the pyramid), `rpn_head` and `box_head` are functional models.
    """

    def __init__(
        self,
        depth,
        num_classes,
        non_local,
        convention,
        min_size,
        max_size,
        non_local_options,
        *,
        groups=1,
        group_width=64,
        width=64,
        normalization=None,
        balanced_pyramid=False,
        anchor_sizes=(32, 64, 128, 256, 512),
        score_threshold=0.05,
        nms_threshold=0.5,
        max_detections=100,
        dtype=None,
        name=None,
        trainable=True,
    ):
        # Boxes are in float32: bfloat16 has no odd pixels above 256.
        super().__init__(
            name=name, dtype="float32", autocast=False, trainable=trainable
        )
        self.depth, self.width = depth, width
        self.groups, self.group_width = groups, group_width
        self.num_classes = num_classes
        self.non_local, self.non_local_options = non_local, non_local_options
        self.convention, self.normalization = convention, normalization
        self.balanced_pyramid = balanced_pyramid
        self.min_size, self.max_size = min_size, max_size
        self.anchor_sizes = tuple(anchor_sizes)
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.networks_dtype = keras.dtype_policies.get(dtype).name
        self._check()
        with self.policy_of_networks():
            self._build_networks()
        self.built = True

    @property
    def rules(self):
        """`DetectionConvention`."""
        return DETECTION_CONVENTIONS[self.convention]

    def get_config(self):
        names = "depth num_classes non_local convention min_size max_size "
        names += "non_local_options groups group_width width normalization "
        names += "balanced_pyramid "
        names += "anchor_sizes score_threshold nms_threshold max_detections name "
        config = {key: getattr(self, key) for key in f"{names}trainable".split()}
        return config | {"dtype": self.networks_dtype}

    @contextlib.contextmanager
    def policy_of_networks(self):
        """Layers that are made here have the networks' dtype policy."""
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.networks_dtype)
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)

    def _build_networks(self):
        rules, channels = self.rules, 4 * self.width
        backbone = resnet_backbone(
            self.depth,
            width=self.width,
            groups=self.groups,
            group_width=self.group_width,
            stride_in_1x1=rules.stride_in_1x1 and self.groups == 1,
            normalization=self.normalization or rules.normalization,
            non_local=self.non_local,
            non_local_options=self.non_local_options,
        )
        norm = rules.head_normalization
        pyramid = feature_pyramid(backbone.outputs, channels, normalization=norm)
        if self.balanced_pyramid:
            pyramid = balanced_pyramid(pyramid)
        self.backbone = keras.Model(backbone.inputs[0], pyramid, name="backbone")
        self.rpn_head = heads.rpn_head(channels, len(RATIOS), rules.rpn_convs)
        self.box_head = heads.box_head(
            channels, 4 * channels, self.num_classes, rules.box_convs, norm
        )

    # === Networks ===

    def networks(self, image_shape):
        """The functional models that the detector consists of, and what they take.

        Args:
            image_shape: (height, width) of one padded image.

        Returns:
            A list of `(model, shapes)`: the shape of each input that the model is
            called with, regions along the first axis.
        """
        maps = [[-(-side // 2**level) for side in image_shape] for level in LEVELS]
        channels = self.rpn_head.input_shape[-1]
        return [
            (self.backbone, [(1, *image_shape, 3)]),
            (self.rpn_head, [(1, *sides, channels) for sides in maps]),
            of_regions(self.box_head, PROPOSALS[False]),
        ]

    def extract_features(self, images, training=False):
        """`(B, H, W, 3)`, normalised, to the maps P2 to P6 of strides 4 to 64."""
        return self.backbone(images, training=training)

    def predict_rpn(self, features, training=False):
        """The scores and deltas of all anchors, in the order of `anchors`.

        Returns:
            `(logits, deltas)`: `(B, A)` and `(B, A, 4)` float32.
        """
        outputs = [self.rpn_head(level, training=training) for level in features]
        logits, deltas = zip(*outputs, strict=True)
        batch = ops.shape(features[0])[0]
        logits = [_float32(x, (batch, -1)) for x in logits]
        deltas = [_float32(x, (batch, -1, 4)) for x in deltas]
        return ops.concatenate(logits, axis=1), ops.concatenate(deltas, axis=1)

    def predict_boxes(self, features, boxes, training=False):
        """The scores and deltas of each class for boxes `(B, n, 4)`.

        Returns:
            `(class_logits, deltas)`: `(B, n, C)` and `(B, n, C, 4)` float32.
        """
        regions = self._regions(features, boxes, heads.BOX_BINS)
        logits, deltas = self.box_head(regions, training=training)
        shape = (*ops.shape(boxes)[:2], self.num_classes)
        return _float32(logits, shape), _float32(deltas, (*shape, 4))

    def _regions(self, features, boxes, bins):
        return multilevel_roi_align(features[:POOLED], boxes, bins)

    # === Boxes ===

    def anchors(self, image_shape):
        """The anchors of a padded image.

        Args:
            image_shape: (height, width), multiples of 32.

        Returns:
            `(anchors, counts)`: `(A, 4)` in the order (level, y, x, ratio), and the
            number of anchors of each level.
        """
        grids = [[-(-side // 2**level) for side in image_shape] for level in LEVELS]
        return pyramid_anchors(image_shape, grids, self.anchor_sizes)

    def propose(self, logits, deltas, sizes, image_shape, training=False):
        """The best proposals of each image, without gradients.

        Args:
            logits: `(B, A)` of `predict_rpn`.
            deltas: `(B, A, 4)`.
            sizes: `(B, 2)`: (height, width) of each image without its padding.
            image_shape: (height, width) of the padded images.
            training: Whether 2000 instead of 1000 are wanted, of each level and of all.

        Returns:
            `(boxes, num_valid)`: `(B, 1000 or 2000, 4)` by falling score and `(B,)`,
            after which the rest is zero.
        """
        anchors, counts = self.anchors(image_shape)
        levels = proposals.split_levels(logits, deltas, anchors, counts)
        return proposals.propose(levels, sizes, PROPOSALS[bool(training)])

    def postprocess(self, class_logits, deltas, boxes, num_valid, sizes):
        """The detections in the resized images, without masks and keypoints.

        Args:
            class_logits: `(B, n, C)` of `predict_boxes`.
            deltas: `(B, n, C, 4)`.
            boxes: `(B, n, 4)` of `propose`.
            num_valid: `(B,)`.
            sizes: `(B, 2)`: (height, width) of each image without its padding.

        Returns:
            Dict of `boxes` `(B, max_detections, 4)`, `scores` and `labels`
            `(B, max_detections)` by falling score, and `num_detections` `(B,)`, after
            which the rest is zero.
        """
        return proposals.detect(
            class_logits,
            deltas,
            boxes,
            num_valid,
            sizes,
            nms_threshold=self.nms_threshold,
            score_threshold=self.score_threshold,
            count=self.max_detections,
        )

    def call(self, images, sizes=None, training=False):
        """Detects objects in a batch of normalised, padded images.

        Args:
            images: `(B, H, W, 3)`; see `preprocess` and `batch`.
            sizes: `(B, 2)`: (height, width) of each image without its padding; None:
                there is no padding.

        Returns:
            Dict: see `postprocess`, with `masks` or `keypoints`.
        """
        batch, *shape, _ = ops.shape(images)
        if sizes is None:
            sizes = ops.broadcast_to(ops.convert_to_tensor(shape), (batch, 2))
        features = self.extract_features(images, training)
        logits, deltas = self.predict_rpn(features, training)
        boxes, num_valid = self.propose(logits, deltas, sizes, shape)
        outputs = self.predict_boxes(features, boxes, training)
        found = self.postprocess(*outputs, boxes, num_valid, sizes)
        return found | self._described(features, found)

    def _described(self, features, found):
        """Masks or keypoints; of the boxes there are, not of the zeros behind them."""
        count = ops.maximum(ops.max(found["num_detections"]), 1)
        boxes, labels = (found[key][:, :count] for key in ("boxes", "labels"))
        details = self.describe_boxes(features, boxes, labels)
        return {key: self._filled(x) for key, x in details.items()}

    def _filled(self, x):
        """`(B, n, ...)` to `(B, max_detections, ...)`, with zeros."""
        shape = (-1, self.max_detections, *x.shape[2:])
        return ops.reshape(proposals.pad_boxes(x, self.max_detections), shape)

    # === Checks ===

    def _check(self):
        owner = type(self).__name__
        choices = DETECTION_CONVENTIONS
        check_choice("convention", self.convention, choices, owner=owner)
        for name in ("num_classes", "min_size", "max_size", "max_detections", "width"):
            check_positive_int(name, getattr(self, name), owner=owner)
        sizes = self.anchor_sizes
        if len(sizes) != len(LEVELS) or not all(size > 0 for size in sizes):
            expected = f"{len(LEVELS)} positive numbers, for levels P2 to P6"
            raise invalid_argument("anchor_sizes", sizes, expected, owner=owner)
        for name in ("score_threshold", "nms_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                expected, value = "a number from 0 to 1", getattr(self, name)
                raise invalid_argument(name, value, expected, owner=owner)


def of_regions(head, count):
    """A head, and the shape of the regions that it takes for one image."""
    return head, [(count, *head.input_shape[1:])]


def _float32(x, shape):
    return ops.cast(ops.reshape(x, shape), "float32")
