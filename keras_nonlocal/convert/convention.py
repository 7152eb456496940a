"""Whether a model computes what the weights were trained for."""

import keras

from keras_nonlocal.layers import NonLocal3D
from keras_nonlocal.models.conventions import CONVENTIONS

# Biases are weights: where one is missing, that is reported.
_BLOCK_OPTIONS = ("sub_sample", "pool_position", "use_scale")


def differences(model, name, demands):
    """How a model departs from a convention, a line each.

    Args:
        model: C2D or I3D; anything else has no convention to depart from.
        name: Key of `CONVENTIONS`.
        demands: Mapping from options of `NonLocal3D` to what the weights say that
            they must be, above the convention.

    Example:
    >>> differences(C2D(14, 10, (4, 64, 64, 3), width=8), "pyslowfast", {})
    ('pool1 pads height and width by 0, not 1',)
    """
    if not isinstance(model, keras.Model):
        return ()
    rules = CONVENTIONS[name]
    layers = {layer.name: layer for layer in model.layers}
    lines = []
    if {"conv1", "pool1", "pool2"} <= layers.keys():
        lines += _of_pools(layers["conv1"], layers["pool1"], layers["pool2"], rules)
    options = rules.non_local_options | demands
    for layer in model.layers:
        if isinstance(layer, NonLocal3D):
            lines += _of_block(layer, options)
    return tuple(dict.fromkeys(lines))


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
        if getattr(layer, name) != options[name] and _matters(layer, name):
            yield (
                f"non-local blocks have {name}={getattr(layer, name)!r}, "
                f"not {options[name]!r}"
            )


def _matters(layer, name):
    if name == "pool_position":
        return layer.sub_sample
    return name != "use_scale" or layer.mode == "embedded_gaussian"
