"""Feature pyramids: torchvision's, and the balanced one of Libra R-CNN."""

import keras
from keras import layers, ops

from keras_nonlocal.layers import BatchNormalization, NonLocal2D, PaddedConv2D
from keras_nonlocal.ops.resampling import adaptive_max_pool, nearest
from keras_nonlocal.validation import check_choice

FPN_NORMALIZATIONS = (None, "batch")
_BALANCED = 2  # the index of P4, in whose size all levels are averaged


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
            above = Resampling("nearest", name=f"fpn_upsampling{level}")([above, x])
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


def balanced_pyramid(maps, non_local_options=None):
    """Adds to every level the mean of all levels, refined by a non-local block.

    Smaller levels are enlarged to P4's size by repetition and larger ones max-pooled;
    the refined mean goes back the same ways. The block `bfp_nonlocal` is mmdetection's
    of Libra R-CNN: as many channels within, no pooling, no scale, no normalisation.
    New, it is an identity, but the mean of the levels is added all the same: a network
    that was trained without has other features then.

    Args:
        maps: Symbolic `[P2, P3, P4, P5, P6]` of `feature_pyramid`.
        non_local_options: Dict of arguments of `NonLocal2D` above these.

    Returns:
        Symbolic `[P2, P3, P4, P5, P6]`, of the same shapes.

    Example:
    >>> from keras_nonlocal.models import resnet_backbone
    >>> backbone = resnet_backbone(14, (64, 96, 3), width=16)
    >>> maps = balanced_pyramid(feature_pyramid(backbone.outputs, 32))
    >>> [tuple(x.shape[1:3]) for x in maps]
    [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]

    Reference: [Pang et al., 2019](https://arxiv.org/abs/1904.02701)
    """
    methods = ["max"] * _BALANCED + ["nearest"] * (len(maps) - _BALANCED)
    middle = maps[_BALANCED]
    gathered = [
        x if x is middle else Resampling(method, name=f"bfp_gather{i}")([x, middle])
        for i, (x, method) in enumerate(zip(maps, methods, strict=True), 2)
    ]
    options = {
        "intermediate_channels": middle.shape[-1],
        "sub_sample": False,
        "use_scale": False,
        "normalization": None,
        "data_format": "channels_last",
    }
    refined = NonLocal2D(**(options | (non_local_options or {})), name="bfp_nonlocal")
    mean = refined(layers.Average(name="bfp_mean")(gathered))
    outputs = []
    for i, (x, method) in enumerate(zip(maps, methods, strict=True), 2):
        if x is not middle:
            back = "nearest" if method == "max" else "max"
            mean_here = Resampling(back, name=f"bfp_scatter{i}")([mean, x])
        else:
            mean_here = mean
        outputs.append(layers.Add(name=f"bfp_add{i}")([x, mean_here]))
    return outputs


_METHODS = {"nearest": nearest, "max": adaptive_max_pool}


@keras.saving.register_keras_serializable(package="keras_nonlocal")
class Resampling(layers.Layer):
    """A map in the size of another.

    Args:
        method: `"nearest"`: by repetition; `"max"`: the maxima in windows that cover
            the map. Both as in PyTorch, for any sizes.

    Call arguments:
        inputs: `[x, like]`, `(B, H, W, C)` and `(B, H', W', C')`.

    Output shape: `(B, H', W', C)`.
    """

    def __init__(self, method, **kwargs):
        super().__init__(**kwargs)
        check_choice("method", method, _METHODS, owner="Resampling")
        self.method = method

    def call(self, inputs):
        x, like = inputs
        return _METHODS[self.method](x, *ops.shape(like)[1:3])

    def compute_output_shape(self, input_shape):
        (batch, *_, channels), (_, height, width, _) = input_shape
        return (batch, height, width, channels)

    def get_config(self):
        return super().get_config() | {"method": self.method}
