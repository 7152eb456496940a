"""Networks that share a project's names, and are not C2D or I3D."""

import re

from keras_nonlocal.convert.errors import CheckpointError


def refuse_others(source, state):
    """Raises if a weight's name is one that only other networks have."""
    for pattern, kind in source.others.items():
        for name in filter(re.compile(pattern).search, state):
            if source.convention:
                raise _not_ours(kind, name)
            raise not_plain(f"{kind}: weight {name!r}")


def refuse_slow(arrays, names):
    """Raises for a Slow pathway, by our paths: conv1 sees 1 frame, and res4 three."""
    kernels = ("conv1/kernel", "res4_0_branch2a/kernel")
    shapes = [getattr(arrays.get(path), "shape", ()) for path in kernels]
    if [x[2:3] for x in shapes] == [(1,), (3,)] and len(shapes[0]) == 5:
        raise _not_ours(
            "a Slow network (SlowOnly), without pooling in time and inflated in res4 "
            "and res5 alone",
            names["conv1/kernel"],
        )


def refuse_blocks(weights, targets):
    """Raises for residual blocks in groups, or wide ones, unless the network has such.

    Args:
        weights: `Weights`.
        targets: The network's, by our path.
    """
    path = "res2_0_branch2b/kernel"
    if not weights.is_image_network or not {path} <= targets.keys() & weights.arrays:
        return
    target, array = targets[path], weights.arrays[path]
    inputs, outputs = weights.source.layout(array, target.shape).shape[-2:]
    if target.shape[-2] != target.shape[-1] or (inputs, outputs) == target.shape[-2:]:
        return
    where = f"{weights.names[path]!r} has shape {array.shape}"
    if inputs != outputs:
        raise not_plain(f"its convolutions are in groups: {where}")
    if weights.sizes.get("conv1_bn/gamma", outputs) != outputs:
        raise not_plain(f"its blocks are wide: {where}")


def _not_ours(kind, name):
    return CheckpointError(
        f"The weights are of {kind} (weight {name!r}), which is another network than "
        "C2D and I3D: its weights cannot be loaded."
    )


def not_plain(reason):
    """The error for weights of a ResNet that C2D and I3D are not inflated from."""
    return CheckpointError(
        "The weights are not of a plain ResNet-50, -101 or -152, as C2D and I3D need: "
        f"{reason}. Use resnet50 of torchvision or timm, ResNet50 of "
        "keras.applications or resnet_50_imagenet of KerasHub, or their like."
    )
