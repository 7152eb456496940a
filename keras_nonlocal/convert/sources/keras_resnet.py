"""ImageNet ResNets of Keras: to be inflated.

Those of `keras.applications` stride in the first 1x1 convolution of a block, as the
first ResNets did, and have biases before their normalisations; those of KerasHub
stride in the 3x3 and have no biases, as torchvision's.
"""

from keras_nonlocal.convert.arrays import keras_to_keras, to_float32
from keras_nonlocal.convert.errors import CheckpointError, Problem
from keras_nonlocal.convert.preprocessing import IMAGENET, Pixels
from keras_nonlocal.convert.sources.keras_names import BN, DENSE, by_layer
from keras_nonlocal.convert.sources.names import branches
from keras_nonlocal.convert.sources.refusal import not_plain
from keras_nonlocal.convert.sources.source import Source

# Weights that no plain ResNet has.
_VARIANTS = {
    r"(preact|pre_activation)_bn/|^post_bn/": (
        "it normalises before its convolutions (ResNet V2)"
    ),
    r"^conv2_(conv|bn)/": "it has a stem of several convolutions (ResNet-vd)",
    r"/depthwise_kernel$": "its convolutions are in groups (ResNeXt)",
}


def _unwrap(content):
    """The layers' weights, those of a backbone within a classifier among them."""
    return {
        "/".join(x.split("/")[-2:]): array for x, array in by_layer(content).items()
    }


def _refuse_others(state):
    blocks = [name for name in state if "_block" in name]
    if blocks and not any(name.endswith("_3_conv/kernel") for name in blocks):
        raise not_plain("its blocks have two convolutions, as ResNet-18 and -34 have")
    return state


def _without_biases(state):
    """The biases of convolutions, in the means of the normalisations behind them.

    BN(x + b - m) is the same as BN(x - (m - b)).
    """
    state = dict(_refuse_others(state))
    for name in [name for name in state if name.endswith("_conv/bias")]:
        mean = name.replace("_conv/bias", "_bn/moving_mean")
        means = to_float32(state[mean]) if mean in state else None
        biases = to_float32(state.pop(name))
        if means is None or biases is None or means.shape != biases.shape:
            raise CheckpointError(
                f"{name!r} is the bias of a convolution, but there is no {mean!r}, "
                "numbers of the same shape, to take it into. Expected the weights of "
                "a keras.applications ResNet."
            )
        state[mean] = means - biases
    return state


def _names(stage):
    return {
        "conv1_conv/kernel": "conv1/kernel",
        "conv1_bn/{bn}": "conv1_bn/{bn}",
        stage + "_block{i}_{c}_conv/kernel": "res{s}_{i}_{c}/kernel",
        stage + "_block{i}_{c}_bn/{bn}": "res{s}_{i}_{c}_bn/{bn}",
        "predictions/{w}": "pred/{w}",
    }


_FIELDS = {"c": branches(*"0123"), "bn": BN, "w": DENSE}
_IMAGES = {
    "ignored": (),
    "others": _VARIANTS,
    "unwrap": _unwrap,
    "layout": keras_to_keras,
    "is_image_network": lambda state: True,
}
_PIXELS = Pixels("BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))

KERAS_APPLICATIONS = Source(
    name="keras_applications",
    **_IMAGES,
    names=_names("conv{s}"),
    fields=_FIELDS | {"i": {str(k + 1): str(k) for k in range(36)}},
    epsilon=1.001e-5,
    normalize=_without_biases,
    stride_in_1x1=True,
    pixels=_PIXELS,
    remark=Problem(
        "pixels",
        found=_PIXELS.color,
        expected=_PIXELS.mean,
        name="keras.applications.resnet.preprocess_input gives",
    ),
)

KERAS_HUB = Source(
    name="keras_hub",
    **_IMAGES,
    names=_names("stack{s}"),
    fields=_FIELDS | {"s": {str(k): str(k + 2) for k in range(4)}},
    normalize=_refuse_others,
    pixels=IMAGENET,
)
