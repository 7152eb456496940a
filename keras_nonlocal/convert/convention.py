"""Whether a model computes what the weights were trained for."""

import keras

from keras_nonlocal.convert.targets import layers_of
from keras_nonlocal.layers import BaseNonLocal
from keras_nonlocal.models.conventions import CONVENTIONS
from keras_nonlocal.models.video_resnet import STEMS

# Of the projects whose networks of an architecture all have one stem.
_STEMS = {
    ("pyslowfast", "c2d"): "8x8",
    ("pyslowfast", "i3d"): "8x8",
    ("mmaction2", "c2d"): "8x8",
    ("mmaction2", "i3d"): "32x2",
    ("gluoncv", "i3d"): "32x2",
}

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
        lines += _of_stem(layers["conv1"], name)
        lines += _of_pools(layers["conv1"], layers["pool1"], layers["pool2"], rules)
    options = {"scope": "spacetime", "group_size": None, **rules.non_local_options}
    for layer in layers.values():
        if isinstance(layer, BaseNonLocal) and layer.name not in new:
            stage = layer.name.split("_")[0]
            lines += _of_block(layer, options | demands | demands.get(stage, {}))
    return tuple(lines)


def differences_in_strides(model, stride_in_1x1):
    """Where a model's residual blocks stride in another convolution; a line or none.

    Example:
    >>> differences_in_strides(C2D(14, 10, (4, 64, 64, 3), width=8), True)
    ('res3_0 strides in its 3x3 convolution, not in the first 1x1',)
    """
    layers = {layer.name: layer for layer in layers_of(model)}
    if stride_in_1x1 is None or "res3_0_branch2a" not in layers:
        return ()
    if (layers["res3_0_branch2a"].strides[1] > 1) is stride_in_1x1:
        return ()
    places = ["first 1x1", "3x3 convolution"]
    if stride_in_1x1:
        places.reverse()
    return (f"res3_0 strides in its {places[0]}, not in the {places[1]}",)


def advice(model, name, demands):
    """What to build a model, or a single non-local block, with instead.

    Example:
    >>> advice(NonLocal3D(), "paper", {"sub_sample": False})
    "the layer with sub_sample=False, pool_position='after', use_scale=False"
    >>> advice(C2D(), "paper", {"sub_sample": False})
    "the model with convention='paper', non_local_options={'sub_sample': False}"
    >>> advice(I3D(), "gluoncv", {})
    "the model with convention='gluoncv', stem='32x2'"
    """
    options = CONVENTIONS[name].non_local_options
    if not isinstance(model, keras.Model):
        options |= demands
        chosen = [f"{x}={options[x]!r}" for x in _BLOCK_OPTIONS if x in options]
        return f"the layer with {', '.join(chosen)}"
    extra = {x: value for x, value in demands.items() if options.get(x) != value}
    chosen = [f"convention={name!r}"]
    chosen += [
        f"stem={_stem(x, name)!r}"
        for x in layers_of(model)
        if x.name == "conv1" and _stem(x, name)
    ]
    if extra:
        chosen.append(f"non_local_options={extra}")
    return f"the model with {', '.join(chosen)}"


def _architecture(conv1):
    return "i3d" if conv1.kernel_size[0] > 1 else "c2d"


def stem_of(name, architecture):
    """The stem that all networks of a convention's project have, or None.

    Example:
    >>> stem_of("gluoncv", "i3d")
    '32x2'
    """
    return _STEMS.get((name, architecture))


def _stem(conv1, name):
    return stem_of(name, _architecture(conv1))


def _of_stem(conv1, name):
    stem, stride = _stem(conv1, name), conv1.strides[0]
    if stem and stride != STEMS[stem]:
        yield f"conv1 and pool1 have stride {stride} in time, not {STEMS[stem]}"


def _of_pools(conv1, pool1, pool2, rules):
    side = 1 if _architecture(conv1) in rules.padded_pool1 else 0
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
