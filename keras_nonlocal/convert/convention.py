"""Whether a model computes what the weights were trained for."""

import keras

from keras_nonlocal.convert.targets import layers_of
from keras_nonlocal.layers.base_non_local import BaseNonLocal
from keras_nonlocal.models.conventions import CONVENTIONS

# What a block computes; biases are weights, and reported if one is missing.
_BLOCK_OPTIONS = (
    "mode",
    "sub_sample",
    "pool_position",
    "use_scale",
    "scope",
    "group_size",
)


def differences(model, name, demands, new=()):
    """How a model departs from a convention, a line each.

    Args:
        model: C2D, I3D, or a single non-local block.
        name: Key of `CONVENTIONS`.
        demands: Arguments of `NonLocal3D` that the weights ask for above those of
            the convention, as in `non_local_options` of C2D and I3D.
        new: Names of non-local blocks that the weights know nothing of.

    Example:
    >>> differences(C2D(14, 10, (4, 64, 64, 3), width=8), "pyslowfast", {})
    ('pool1 pads height and width by 0, not 1',)
    """
    rules = CONVENTIONS[name]
    layers = {layer.name: layer for layer in layers_of(model)}
    lines = []
    if {"conv1", "pool1", "pool2"} <= layers.keys():
        lines += _of_pools(layers["conv1"], layers["pool1"], layers["pool2"], rules)
    options = {"scope": "spacetime", "group_size": None, **rules.non_local_options}
    for layer in layers.values():
        if isinstance(layer, BaseNonLocal) and layer.name not in new:
            stage = layer.name.split("_")[0]
            lines += _of_block(layer, options | demands | demands.get(stage, {}))
    return tuple(lines)


def advice(model, name, demands):
    """What to build a model, or a single non-local block, with instead.

    Example:
    >>> advice(NonLocal3D(), "paper", {"sub_sample": False})
    "the layer with sub_sample=False, pool_position='after', use_scale=False"
    >>> advice(C2D(), "mmaction2", {"sub_sample": False})
    "the model with convention='mmaction2', non_local_options={'sub_sample': False}"
    """
    options = CONVENTIONS[name].non_local_options
    if not isinstance(model, keras.Model):
        options |= demands
        chosen = [f"{x}={options[x]!r}" for x in _BLOCK_OPTIONS if x in options]
        return f"the layer with {', '.join(chosen)}"
    extra = {x: value for x, value in demands.items() if options.get(x) != value}
    chosen = f", non_local_options={extra}" if extra else ""
    return f"the model with convention={name!r}{chosen}"


def _of_pools(conv1, pool1, pool2, rules):
    architecture = "i3d" if conv1.kernel_size[0] > 1 else "c2d"
    side = 1 if architecture in rules.padded_pool1 else 0
    if pool1.pad[1] != side:
        yield f"pool1 pads height and width by {pool1.pad[1]}, not {side}"
    frames = rules.pool1_frames if pool1.strides[0] > 1 else 1
    for pool, wanted in ((pool1, frames), (pool2, rules.pool2_frames)):
        if pool.pool_size[0] != wanted:
            yield f"{pool.name} looks at {pool.pool_size[0]} frames, not {wanted}"


def _of_block(layer, options):
    for name in _BLOCK_OPTIONS:
        value = getattr(layer, name)
        if value != options.get(name, value) and _matters(layer, name):
            yield f"{layer.name} has {name}={value!r}, not {options[name]!r}"


def _matters(layer, name):
    if name == "pool_position":
        return layer.sub_sample
    return name != "use_scale" or layer.mode == "embedded_gaussian"
