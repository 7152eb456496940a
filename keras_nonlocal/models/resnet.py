"""The parts of a ResNet for video or for images: convolutions, residual blocks, stages.

Tensors are (B, T, H, W, C), or (B, H, W, C) without an axis of time; kernels and
strides are given along (T, H, W) for both.
"""

import keras
from keras import layers

from keras_nonlocal.layers import (
    BatchNormalization,
    NonLocal2D,
    NonLocal3D,
    PaddedConv2D,
    PaddedConv3D,
)

# Residual blocks of res2 to res5, of 3 convolutions each; conv1 and pred are 2 more.
# 50 and 101 are the paper's. 14 and 26 are for demonstrations and tests, best with a
# smaller `width`.
DEPTHS = {
    14: (1, 1, 1, 1),
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}

EXPANSION = 4  # channels out of a bottleneck over those within it

_CONVOLUTIONS = {2: PaddedConv2D, 3: PaddedConv3D}  # by the number of axes
_NON_LOCAL = {2: NonLocal2D, 3: NonLocal3D}


def conv_bn(
    x,
    filters,
    kernel,
    *,
    name,
    strides=(1, 1, 1),
    relu=True,
    gamma="ones",
    groups=1,
    norm=BatchNormalization,
):
    """Convolution without bias, normalisation `norm` and optionally ReLU."""
    rank = len(x.shape) - 2
    options = {"use_bias": False, "kernel_initializer": he_normal_fan_out()}
    x = _CONVOLUTIONS[rank](
        filters, kernel[-rank:], strides[-rank:], groups=groups, name=name, **options
    )(x)
    x = norm(gamma_initializer=gamma, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def he_normal_fan_out():
    """N(0, 2 / fan_out), not truncated."""
    return keras.initializers.VarianceScaling(
        scale=2.0, mode="fan_out", distribution="untruncated_normal"
    )


def bottleneck(
    x,
    width,
    taps,
    strides,
    *,
    zero_init,
    stride_in_1x1,
    name,
    groups=1,
    group_width=64,
    norm=BatchNormalization,
):
    """Residual block: ReLU(F(x) + shortcut), F = 1x1x1, 3x3 (strided), 1x1x1.

    Args:
        x: Input tensor.
        width: Channels within; 4 times as many leave.
        taps: Taps in time of the first two convolutions.
        strides: Of the 3x3 convolution, and of the shortcut.
        zero_init: The last gamma of F starts at 0, and F with it.
        stride_in_1x1: The first convolution has the strides, not the 3x3.
        name: Prefix of the layers' names.
        groups: Of the 3x3 convolution (ResNeXt).
        group_width: Channels within are `groups * group_width` for each 64 of `width`.
        norm: Class of the normalisations.
    """
    filters, inner = EXPANSION * width, width * group_width // 64 * groups
    shortcut = x
    if x.shape[-1] != filters or any(stride > 1 for stride in strides):
        shortcut = conv_bn(
            x,
            filters,
            (1, 1, 1),
            strides=strides,
            relu=False,
            norm=norm,
            name=f"{name}_branch1",
        )
    first, second = (strides, (1, 1, 1)) if stride_in_1x1 else ((1, 1, 1), strides)
    y = conv_bn(
        x, inner, (taps[0], 1, 1), strides=first, norm=norm, name=f"{name}_branch2a"
    )
    y = conv_bn(
        y,
        inner,
        (taps[1], 3, 3),
        strides=second,
        groups=groups,
        norm=norm,
        name=f"{name}_branch2b",
    )
    y = conv_bn(
        y,
        filters,
        (1, 1, 1),
        relu=False,
        gamma="zeros" if zero_init else "ones",
        norm=norm,
        name=f"{name}_branch2c",
    )
    x = layers.Add(name=f"{name}_add")([y, shortcut])
    return layers.ReLU(name=f"{name}_out")(x)


def stage(
    x, name, width, num_blocks, stride, inflation, non_local, options, **residual
):
    """Residual blocks `{name}_{i}_*`, with non-local blocks `{name}_{i}_nonlocal`.

    Args:
        x: Input tensor.
        name: `"res2"` to `"res5"`; also the name of the layer that holds the
            stage's output.
        width: Channels within a residual block.
        num_blocks: Number of residual blocks.
        stride: In space, of the first residual block.
        inflation: `Inflation`.
        non_local: Indices of the residual blocks that a non-local block follows.
        options: Arguments of `NonLocal3D`, or of `NonLocal2D` for images.
        **residual: The other arguments of `bottleneck`.
    """
    non_local_block = _NON_LOCAL[len(x.shape) - 2]
    for i in range(num_blocks):
        strides = (1, stride, stride) if i == 0 else (1, 1, 1)
        taps = inflation.taps(name, i)
        block = f"{name}_{i}"
        x = bottleneck(x, width, taps, strides, name=block, **residual)
        if i in non_local:
            x = non_local_block(
                **options, data_format="channels_last", name=f"{block}_nonlocal"
            )(x)
    return layers.Identity(name=name)(x)
