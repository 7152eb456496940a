"""The heads of Mask R-CNN: of region proposals, boxes, masks and keypoints."""

import keras
from keras import layers

from keras_nonlocal.layers import NonLocal2D, PaddedConv2D
from keras_nonlocal.models.resnet import conv_bn, he_normal_fan_out

BOX_BINS = 7  # of RoIAlign along each side
MASK_BINS = 14  # of masks and keypoints
KEYPOINT_CONVS = 8
CONVS_BETWEEN_BLOCKS = 2  # of the keypoint head (Sec. 6 of the paper)


def rpn_head(channels, num_anchors, num_convs=1):
    """Scores and deltas of the anchors at each position of a map.

    Returns:
        `keras.Model`: `(B, H, W, channels)` to `(B, H, W, num_anchors)` logits and
        `(B, H, W, 4 * num_anchors)` deltas.
    """
    inputs = x = keras.Input((None, None, channels), name="map")
    for i in range(num_convs):
        x = _conv(x, channels, f"rpn_conv{i + 1}", initializer=_normal(0.01))
    outputs = [
        _conv(x, filters, name, size=1, activation=None, initializer=_normal(0.01))
        for filters, name in (
            (num_anchors, "rpn_logits"),
            (4 * num_anchors, "rpn_deltas"),
        )
    ]
    return keras.Model(inputs, outputs, name="rpn_head")


def box_head(channels, hidden, num_classes, num_convs=0, normalization=None):
    """Scores and deltas of each class for a region.

    Args:
        channels: Of the pyramid.
        hidden: Units of the hidden layers: two, or one behind convolutions.
        num_classes: The background included.
        num_convs: 3x3 convolutions before the hidden layers.
        normalization: Of these: None or `"batch"`.

    Returns:
        `keras.Model`: `(R, 7, 7, channels)` to `(R, num_classes)` logits and
        `(R, 4 * num_classes)` deltas.
    """
    inputs = x = keras.Input((BOX_BINS, BOX_BINS, channels), name="regions")
    for i in range(num_convs):
        x = _conv(x, channels, f"box_conv{i + 1}", normalization)
    x = layers.Flatten(data_format="channels_last", name="box_flatten")(x)
    for name in ("box_fc6",) if num_convs else ("box_fc6", "box_fc7"):
        options = {"activation": "relu", "kernel_initializer": "lecun_uniform"}
        x = layers.Dense(hidden, name=name, **options)(x)
    outputs = [
        layers.Dense(units, kernel_initializer=_normal(stddev), name=name)(x)
        for units, stddev, name in (
            (num_classes, 0.01, "box_logits"),
            (4 * num_classes, 0.001, "box_deltas"),
        )
    ]
    return keras.Model(inputs, outputs, name="box_head")


def mask_head(channels, num_classes, normalization=None):
    """A mask for each class of a region.

    Returns:
        `keras.Model`: `(R, 14, 14, channels)` to `(R, 28, 28, num_classes)` logits.
    """
    inputs = x = keras.Input((MASK_BINS, MASK_BINS, channels), name="regions")
    for i in range(4):
        x = _conv(x, channels, f"mask_conv{i + 1}", normalization)
    x = _doubled(x, channels, 2, "mask_deconv", activation="relu")
    x = _conv(x, num_classes, "mask_logits", size=1, activation=None)
    return keras.Model(inputs, x, name="mask_head")


def keypoint_head(channels, width, num_keypoints, non_local=False, options=None):
    """A heatmap for each keypoint of a region.

    Args:
        channels: Of the pyramid.
        width: Channels of the 8 convolutions.
        num_keypoints: Number of heatmaps.
        non_local: Whether a non-local block over the region's 14x14 positions follows
            every second convolution.
        options: Dict of arguments of `NonLocal2D`.

    Returns:
        `keras.Model`: `(R, 14, 14, channels)` to `(R, 56, 56, num_keypoints)` logits.
    """
    inputs = x = keras.Input((MASK_BINS, MASK_BINS, channels), name="regions")
    for i in range(1, KEYPOINT_CONVS + 1):
        x = _conv(x, width, f"keypoint_conv{i}")
        if non_local and i % CONVS_BETWEEN_BLOCKS == 0:
            name = f"keypoint_conv{i}_nonlocal"
            options = {"data_format": "channels_last", **(options or {})}
            x = NonLocal2D(**options, name=name)(x)
    x = _doubled(x, num_keypoints, 4, "keypoint_deconv")
    x = layers.UpSampling2D(
        2,
        interpolation="bilinear",
        data_format="channels_last",
        name="keypoint_upsampling",
    )(x)
    return keras.Model(inputs, x, name="keypoint_head")


# === Layers ===


def _normal(stddev):
    return keras.initializers.RandomNormal(stddev=stddev)


def _conv(
    x, filters, name, normalization=None, size=3, activation="relu", initializer=None
):
    """Convolution with a bias, or with batch normalisation, and ReLU."""
    if normalization == "batch":
        return conv_bn(x, filters, (1, size, size), name=name)
    return PaddedConv2D(
        filters,
        size,
        activation=activation,
        kernel_initializer=initializer or he_normal_fan_out(),
        name=name,
    )(x)


def _doubled(x, filters, size, name, activation=None):
    """Transposed convolution that doubles both sides."""
    return layers.Conv2DTranspose(
        filters,
        size,
        strides=2,
        padding="same",
        activation=activation,
        kernel_initializer=he_normal_fan_out(),
        data_format="channels_last",
        name=name,
    )(x)
