"""The network of C2D and I3D, which differ in their temporal kernels."""

import keras
from keras import layers

from keras_nonlocal.layers import NonLocal3D, PaddedMaxPooling3D
from keras_nonlocal.models import resnet
from keras_nonlocal.models.conventions import CONVENTIONS
from keras_nonlocal.models.placement import STAGES, place, stage_options
from keras_nonlocal.validation import (
    check_choice,
    check_positive_int,
    invalid_argument,
)

# Stride in time of conv1 and of pool1.
STEMS = {"8x8": 1, "32x2": 2}


def video_resnet(
    architecture,
    inflation,
    *,
    depth,
    num_classes,
    input_shape,
    stem,
    non_local,
    non_local_options,
    convention,
    width,
    dropout_rate,
    include_top,
    name,
    stride_in_1x1,
):
    """Builds the functional model; see `C2D` for the arguments.

    Args:
        architecture: `"c2d"` or `"i3d"`.
        inflation: `Inflation`, the taps in time.
    """
    owner = architecture.upper()
    _check(owner, depth, num_classes, input_shape, stem, width, dropout_rate)
    check_choice("convention", convention, CONVENTIONS, owner=owner)
    rules = CONVENTIONS[convention]
    num_blocks = dict(zip(STAGES, resnet.DEPTHS[depth], strict=True))
    placed = place(non_local, num_blocks)
    defaults = rules.non_local_options
    options = stage_options(NonLocal3D, defaults, non_local_options, owner)

    # === Functional Model ===
    clips = keras.Input(shape=input_shape, name="clips")
    x = _stem(clips, width, STEMS[stem], inflation.conv1, rules, architecture)
    for i, stage in enumerate(STAGES):
        x = resnet.stage(
            x,
            stage,
            width * 2**i,
            num_blocks[stage],
            stride=1 if i == 0 else 2,
            inflation=inflation,
            non_local=placed[stage],
            options=options[stage],
            zero_init=rules.zero_init_residual,
            stride_in_1x1=stride_in_1x1,
        )
        if stage == "res2":
            x = _pool2(x, rules.pool2_frames)
    if include_top:
        x = _head(x, num_classes, dropout_rate)
    return keras.Model(clips, x, name=name or architecture)


def _stem(x, width, temporal_stride, taps, rules, architecture):
    """(B, T, H, W, 3) -> (B, T / 1 or 4, H / 4, W / 4, width)."""
    strides = (temporal_stride, 2, 2)
    x = resnet.conv_bn(x, width, (taps, 7, 7), strides=strides, name="conv1")
    frames = rules.pool1_frames if temporal_stride > 1 else 1
    side = 1 if architecture in rules.padded_pool1 else 0
    pad = ((frames - 1) // 2, side, side)
    return PaddedMaxPooling3D((frames, 3, 3), strides, pad, name="pool1")(x)


def _pool2(x, frames):
    pad = ((frames - 1) // 2, 0, 0)
    return PaddedMaxPooling3D((frames, 1, 1), (2, 1, 1), pad, name="pool2")(x)


def _head(x, num_classes, dropout_rate):
    """Logits of the mean over space and time, in at least float32."""
    dtype = keras.config.dtype_policy().variable_dtype
    options = {"data_format": "channels_last", "dtype": dtype}
    x = layers.GlobalAveragePooling3D(name="pool5", **options)(x)
    x = layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
    initial = keras.initializers.RandomNormal(stddev=0.01)
    options = {"kernel_initializer": initial, "dtype": dtype}
    return layers.Dense(num_classes, name="pred", **options)(x)


def _check(owner, depth, num_classes, input_shape, stem, width, dropout_rate):
    check_choice("depth", depth, resnet.DEPTHS, owner=owner)
    check_choice("stem", stem, STEMS, owner=owner)
    check_positive_int("num_classes", num_classes, owner=owner)
    check_positive_int("width", width, owner=owner)
    if not isinstance(dropout_rate, (int, float)) or not 0 <= dropout_rate < 1:
        expected = "a number in [0, 1)"
        raise invalid_argument("dropout_rate", dropout_rate, expected, owner=owner)
    if not _is_clip_shape(input_shape):
        expected = "(frames, height, width, channels); all but channels may be None"
        raise invalid_argument("input_shape", input_shape, expected, owner=owner)


def _is_clip_shape(shape):
    if not isinstance(shape, (tuple, list)) or len(shape) != 4 or shape[-1] is None:
        return False
    return all(n is None or (isinstance(n, int) and n > 0) for n in shape)
