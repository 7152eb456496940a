"""ImageNet ResNets under torchvision's names, which timm shares: to be inflated.

Both projects stride in the 3x3 convolution, as C2D and I3D do.
"""

import re

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.sources.source import Source
from keras_nonlocal.convert.sources.torch_names import BN, DENSE, TRACKED

# Names, or what they hold, that a plain ResNet of bottlenecks has not.
_OTHERS = {
    r"conv1\.\d.*": "a stem of several convolutions (ResNet-C, -D)",
    r".*\.se\..*": "squeeze-and-excitation",
    r".*\.downsample\.2\..*": "average pooling in its shortcuts (ResNet-D)",
    r".*\.(attn|eca|cbam)\..*": "attention within its residual blocks",
}

_CONV2 = "layer1.0.conv2.weight"


def _refuse_others(state):
    for pattern, what in _OTHERS.items():
        for name in state:
            if re.fullmatch(pattern, name):
                raise _refusal(f"it has {what}: weight {name!r}")
    if _CONV2 in state:
        _refuse_blocks(state, state[_CONV2].shape)
    return state


def _refuse_blocks(state, shape):
    """By the shape of the 3x3 convolutions of res2, (width, width, 3, 3)."""
    if "layer1.0.conv3.weight" not in state:
        raise _refusal("its blocks have two convolutions, as ResNet-18 and -34 have")
    if len(shape) != 4:
        raise _refusal(
            f"{_CONV2!r} has shape {shape}, not (O, I, H, W). Of video networks only "
            "those of the known projects can be loaded"
        )
    if shape[0] != shape[1]:
        raise _refusal(f"its convolutions are in groups: {_CONV2!r} has shape {shape}")
    if "conv1.weight" in state and state["conv1.weight"].shape[:1] != shape[:1]:
        raise _refusal(f"its blocks are wide: {_CONV2!r} has shape {shape}")


def _refusal(reason):
    return CheckpointError(
        f"The weights are not of a plain ResNet-50, -101 or -152, as C2D and I3D need: "
        f"{reason}. Use torchvision's resnet50 or timm's resnet50 and their like."
    )


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
    fields={
        "res": {f"layer{k}": f"res{k + 1}" for k in (1, 2, 3, 4)},
        "c": {"1": "a", "2": "b", "3": "c"},
        "bn": BN,
        "w": DENSE,
    },
    ignored=(TRACKED,),
    prepare=_refuse_others,
    is_image_network=lambda state: True,
)
