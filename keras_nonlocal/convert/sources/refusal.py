"""Networks that share a project's names, and are not C2D or I3D."""

import re

from keras_nonlocal.convert.errors import CheckpointError


def refuse(kind, name):
    """The error for weights of another `kind` of network, known by one name."""
    return CheckpointError(
        f"The weights are of {kind} (weight {name!r}), which is another network than "
        "C2D and I3D: its weights cannot be loaded."
    )


def refuse_by_name(state, kinds):
    """Raises if a name fits one of `kinds`, a dict from patterns to networks."""
    for pattern, kind in kinds.items():
        for name in state:
            if re.search(pattern, name):
                raise refuse(kind, name)


def refuse_slow(state, conv1, res4):
    """Raises for a Slow pathway: conv1 sees 1 frame, and res4 three.

    Args:
        state: Dict of arrays by name.
        conv1, res4: Names of the first convolutions of the network and of res4.
    """
    taps = [state[name].shape[2:3] for name in (conv1, res4) if name in state]
    if taps == [(1,), (3,)] and state[conv1].ndim == 5:
        raise refuse(
            "a Slow network (SlowOnly), without pooling in time and inflated in res4 "
            "and res5 alone",
            conv1,
        )


def refuse_variants(state, variants):
    """Raises if a name fits one of `variants`, a dict from patterns to reasons."""
    for pattern, reason in variants.items():
        for name in state:
            if re.fullmatch(pattern, name):
                raise not_plain(f"{reason}: weight {name!r}")


def not_plain(reason):
    """The error for weights of a ResNet that C2D and I3D are not inflated from."""
    return CheckpointError(
        "The weights are not of a plain ResNet-50, -101 or -152, as C2D and I3D need: "
        f"{reason}. Use resnet50 of torchvision or timm, ResNet50 of "
        "keras.applications or resnet_50_imagenet of KerasHub, or their like."
    )
