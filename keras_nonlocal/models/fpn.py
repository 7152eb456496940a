"""Feature pyramid networks, as torchvision builds them."""

import keras
from keras import layers, ops

from keras_nonlocal.layers import BatchNormalization, PaddedConv2D
from keras_nonlocal.validation import check_choice

FPN_NORMALIZATIONS = (None, "batch")


def feature_pyramid(maps, channels=256, *, normalization=None):
    """Adds a feature pyramid behind a backbone.

    Laterals are 1x1 convolutions; from the top down each receives the level above it,
    doubled by repetition; a 3x3 convolution gives every level's output, without ReLU.
    The last level is every other position of the one below it.

    Args:
        maps: Symbolic `[C2, C3, C4, C5]`, each of half the size of the one before,
            rounded up.
        channels: Of all levels.
        normalization: None: convolutions have biases. `"batch"`: instead, batch
            normalisation follows them (torchvision's v2).

    Returns:
        `[P2, P3, P4, P5, P6]`: symbolic, of strides 4 to 64.

    Raises:
        ValueError: An unknown `normalization`.

    Example:
    >>> from keras_nonlocal.models import resnet_backbone
    >>> backbone = resnet_backbone(14, (64, 96, 3), width=16)
    >>> [tuple(x.shape[1:]) for x in feature_pyramid(backbone.outputs, 32)]
    [(16, 24, 32), (8, 12, 32), (4, 6, 32), (2, 3, 32), (1, 2, 32)]

    Reference: [Lin et al., 2017](https://arxiv.org/abs/1612.03144)
    """
    choices = FPN_NORMALIZATIONS
    check_choice("normalization", normalization, choices, owner="feature_pyramid")
    above, outputs = None, []
    for level in reversed(range(2, 2 + len(maps))):
        x = maps[level - 2]
        x = _convolution(x, channels, 1, f"fpn_lateral{level}", normalization)
        if above is not None:
            above = NearestUpsampling(name=f"fpn_upsampling{level}")([above, x])
            x = layers.Add(name=f"fpn_add{level}")([x, above])
        above = x
        x = _convolution(x, channels, 3, f"fpn_output{level}", normalization)
        outputs.insert(0, x)
    name = f"fpn_subsampling{2 + len(maps)}"
    options = {"pool_size": 1, "strides": 2, "data_format": "channels_last"}
    return [*outputs, layers.MaxPooling2D(name=name, **options)(outputs[-1])]


def _convolution(x, channels, extent, name, normalization):
    x = PaddedConv2D(
        channels,
        extent,
        use_bias=normalization is None,
        kernel_initializer="lecun_uniform",  # "XavierFill" of Caffe2
        name=name,
    )(x)
    return x if normalization is None else BatchNormalization(name=f"{name}_bn")(x)


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class NearestUpsampling(layers.Layer):
    """Doubles a map by repetition, to the size of another.

    Call arguments:
        inputs: `[x, like]`, `(B, H, W, C)` and `(B, H', W', C')`; `H'` is `2 H` or
            `2 H - 1`, and `W'` accordingly.

    Output shape: `(B, H', W', C)`.
    """

    def call(self, inputs):
        x, like = inputs
        _, height, width, _ = ops.shape(like)
        x = ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)
        return x[:, :height, :width]

    def compute_output_shape(self, input_shape):
        (batch, *_, channels), (_, height, width, _) = input_shape
        return (batch, height, width, channels)
