"""ImageNet ResNets under torchvision's names, which timm shares: to be inflated.

Both projects stride in the 3x3 convolution, as C2D and I3D do.
"""

from keras_nonlocal.convert.preprocessing import IMAGENET
from keras_nonlocal.convert.sources.names import LAYERS
from keras_nonlocal.convert.sources.refusal import not_plain
from keras_nonlocal.convert.sources.source import Source

# Names that no plain ResNet of bottlenecks has.
_VARIANTS = {
    r"^conv1\.\d": "it has a stem of several convolutions (ResNet-C, -D)",
    r"\.se\.": "it has squeeze-and-excitation",
    r"\.downsample\.2\.": "it has average pooling in its shortcuts (ResNet-D)",
    r"\.(attn|eca|cbam)\.": "it has attention within its residual blocks",
}

_CONV2 = "layer1.0.conv2.weight"


def _refuse_others(state):
    """Residual blocks without a bottleneck, and those of video networks."""
    if _CONV2 not in state:
        return state
    shape = state[_CONV2].shape
    if "layer1.0.conv3.weight" not in state:
        raise not_plain("its blocks have two convolutions, as ResNet-18 and -34 have")
    if len(shape) != 4:
        raise not_plain(
            f"{_CONV2!r} has shape {shape}, not (O, I, H, W). Of video networks only "
            "those of the known projects can be loaded"
        )
    return state


SOURCE = Source(
    name="torchvision",
    names={
        "conv1.weight": "conv1/kernel",
        "bn1.{bn}": "conv1_bn/{bn}",
        "{res}.{i}.conv{c}.weight": "{res}_{i}_branch2{c}/kernel",
        "{res}.{i}.bn{c}.{bn}": "{res}_{i}_branch2{c}_bn/{bn}",
        "{res}.{i}.downsample.0.weight": "{res}_{i}_branch1/kernel",
        "{res}.{i}.downsample.1.{bn}": "{res}_{i}_branch1_bn/{bn}",
        "fc.{w}": "pred/{w}",
    },
    fields={"res": LAYERS},
    others=_VARIANTS,
    normalize=_refuse_others,
    is_image_network=lambda state: True,
    pixels=IMAGENET,
)
