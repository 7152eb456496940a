"""ResNets for images that end in a map of each stage, as detection needs them."""

import functools

import keras

from keras_nonlocal.layers import (
    BatchNormalization,
    FrozenBatchNorm,
    NonLocal2D,
    PaddedMaxPooling2D,
)
from keras_nonlocal.models import resnet
from keras_nonlocal.models.inflation import NO_INFLATION
from keras_nonlocal.models.placement import STAGES, place, stage_options
from keras_nonlocal.validation import (
    check_choice,
    check_positive_int,
    invalid_argument,
)

# Arguments `normalization` of networks for images.
BACKBONE_NORMALIZATIONS = {"frozen": FrozenBatchNorm, "batch": BatchNormalization}


def resnet_backbone(
    depth=50,
    input_shape=(None, None, 3),
    *,
    width=64,
    groups=1,
    group_width=64,
    stride_in_1x1=False,
    normalization="frozen",
    epsilon=1e-5,
    non_local=None,
    non_local_options=None,
    name="backbone",
):
    """ResNet or ResNeXt for images, from the same code as C2D and I3D.

    Layers have the names of C2D, whose ImageNet weights load as they do there.
    Non-local blocks keep a trained normalisation of their own whatever the network's
    is: behind a frozen one, whose gamma is 0, a block would never learn.

    Args:
        depth: 50, 101 or 152; 14 and 26 for tests.
        input_shape: `(height, width, channels)`; None: any size.
        width: Channels after conv1; every other width follows it.
        groups: Of the 3x3 convolutions: 32 for ResNeXt-152-32x8d.
        group_width: Channels of a group in res2 at a `width` of 64: 8 for the same.
        stride_in_1x1: Residual blocks stride in their first 1x1 convolution, as
            Detectron's ResNet-50 and -101, instead of in the 3x3, as torchvision's and
            ResNeXt.
        normalization: `"frozen"`: by stored statistics, never trained; `"batch"`.
        epsilon: Of the normalisations. torchvision's first COCO weights need 0.
        non_local: None, or 1 block right before the last residual block of res4
            (Sec. 6 of the paper), or 5 or 10 as in C2D, or a dict from stage to the
            residual blocks that one follows, such as `{"res4": [4]}`.
        non_local_options: Dict of arguments of `NonLocal2D`. Under a stage's name it
            may hold such a dict for that stage alone.
        name: Name of the model.

    Returns:
        `keras.Model`: images `(B, H, W, C)` to `[C2, C3, C4, C5]`, of strides 4, 8,
        16 and 32 and `4 * width` to `32 * width` channels.

    Raises:
        ValueError: An argument outside its choices; images too small for the network.

    Example:
    >>> model = resnet_backbone(26, (64, 96, 3), width=16, non_local={"res4": [0]})
    >>> [tuple(x.shape) for x in model.outputs][2:]
    [(None, 4, 6, 256), (None, 2, 3, 512)]

    Reference: [Wang et al., 2018](https://arxiv.org/abs/1711.07971)
    """
    _check(depth, input_shape, width, groups, group_width, normalization, epsilon)
    num_blocks = dict(zip(STAGES, resnet.DEPTHS[depth], strict=True))
    placed = place(non_local, num_blocks)
    options = stage_options(NonLocal2D, {}, non_local_options, _OWNER)
    norm = functools.partial(BACKBONE_NORMALIZATIONS[normalization], epsilon=epsilon)

    # === Functional Model ===
    images = keras.Input(shape=input_shape, name="images")
    strides = (1, 2, 2)
    x = resnet.conv_bn(
        images, width, (1, 7, 7), strides=strides, norm=norm, name="conv1"
    )
    x = PaddedMaxPooling2D((3, 3), (2, 2), (1, 1), name="pool1")(x)
    maps = []
    for i, stage in enumerate(STAGES):
        x = resnet.stage(
            x,
            stage,
            width * 2**i,
            num_blocks[stage],
            stride=1 if i == 0 else 2,
            inflation=NO_INFLATION,
            non_local=placed[stage],
            options=options[stage],
            zero_init=False,
            stride_in_1x1=stride_in_1x1,
            groups=groups,
            group_width=group_width,
            norm=norm,
        )
        maps.append(x)
    return keras.Model(images, maps, name=name)


_OWNER = "resnet_backbone"


def _check(depth, input_shape, width, groups, group_width, normalization, epsilon):
    check_choice("depth", depth, resnet.DEPTHS, owner=_OWNER)
    choices = BACKBONE_NORMALIZATIONS
    check_choice("normalization", normalization, choices, owner=_OWNER)
    check_positive_int("width", width, owner=_OWNER)
    check_positive_int("groups", groups, owner=_OWNER)
    check_positive_int("group_width", group_width, owner=_OWNER)
    if width * group_width < 64:
        expected = f"at least {-(-64 // width)} at a `width` of {width}"
        raise invalid_argument("group_width", group_width, expected, owner=_OWNER)
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or epsilon < 0:
        raise invalid_argument("epsilon", epsilon, "a number from 0 on", owner=_OWNER)
    if not _is_image_shape(input_shape):
        expected = "(height, width, channels); all but channels may be None"
        raise invalid_argument("input_shape", input_shape, expected, owner=_OWNER)


def _is_image_shape(shape):
    if not isinstance(shape, tuple | list) or len(shape) != 3 or shape[-1] is None:
        return False
    return all(n is None or (isinstance(n, int) and n > 0) for n in shape)
