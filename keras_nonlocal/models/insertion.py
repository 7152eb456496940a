"""Non-local blocks in networks that exist already."""

import difflib
import re

import keras

from keras_nonlocal.layers import BaseNonLocal
from keras_nonlocal.models.copying import copy_model, graph_of
from keras_nonlocal.validation import invalid_argument


def insert_blocks(model, after):
    """Copies a network and inserts non-local blocks.

    What used the outputs of a layer, the model's own outputs included, uses those of
    the block after it. The layer may be called several times: its block follows each
    call. A block is an exact identity at first (Sec. 4.1), which is checked: until it
    is trained, the copy gives the same outputs as the model.

    Args:
        model: Functional or Sequential `keras.Model`, such as those of
            `keras.applications`. It is not changed.
        after: Dict from the names of layers to new blocks, `NonLocalBlock` or
            `NonLocal1D`, `2D`, `3D`, one for each layer. A block without a name of
            its own is named `<layer>_nonlocal`. In a model that is a layer of
            `model`, layers are named as in `"backbone/conv1"`.

    Returns:
        Functional `keras.Model`, not compiled. Weights are copied, not shared. Layers
        keep their names, their dtypes and whether they train. Blocks train, also in a
        frozen `model`. A subclass of `keras.Model` is kept if its constructor takes
        `(inputs, outputs)`; else the copy is a `keras.Model`.

    Raises:
        ValueError: A model that is not functional; a layer that does not exist, is an
            input, has several outputs, or outputs that the block does not take; a
            block that changes them, or was used before; a name that is taken; a
            layer that cannot be copied.

    Example:
    >>> model = C2D(14, 10, (4, 64, 64, 3), width=8)
    >>> new = insert_blocks(model, after={"res3_0_out": NonLocal3D()})
    >>> new.get_layer("res3_0_out_nonlocal").output.shape
    (None, 2, 8, 8, 64)
    """
    _check_arguments(model, after)
    blocks, names = {}, {}
    for path, block in after.items():
        layer, others = _find(model, path)
        if id(layer) in blocks:
            raise _error(path, "another entry names the same layer")
        if any(block is other for other in blocks.values()):
            raise _error(path, f"block {block.name!r} is given twice: use two blocks")
        names[path] = _name_of(block, layer)
        _check_name(path, names, others)
        _check_place(path, layer, block)
        blocks[id(layer)] = block
    for path, block in after.items():
        block.name = names[path]
    return copy_model(model, lambda layer, x: _follow(blocks.get(id(layer)), x))


def _follow(block, outputs):
    return keras.tree.map_structure(block, outputs) if block else outputs


def _error(path, reason):
    return ValueError(f"insert_blocks, after={{{path!r}: ...}}: {reason}.")


# === Layers by their names ===


def _find(model, path):
    """A layer, and the names of the layers beside it."""
    layer = model
    for name in path.split("/"):
        graph = graph_of(layer)
        if graph is None:
            reason = (
                f"layer {layer.name!r} ({type(layer).__name__}) is not a functional"
            )
            raise _error(path, f"{reason} model, which is needed to find layers in it")
        layers = {layer.name: layer for layer in graph.operations}
        if name not in layers:
            raise _unknown(model, path)
        layer = layers[name]
    return layer, set(layers)


def _unknown(model, path):
    paths = list(_paths(model))
    same = [other for other in paths if other.endswith(f"/{path}")]
    nearest = same or difflib.get_close_matches(path, paths, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return ValueError(
        f"insert_blocks: model {model.name!r} has no layer {path!r}.{hint} "
        "`[layer.name for layer in model.layers]` lists the names."
    )


def _paths(model, prefix=""):
    graph = graph_of(model)
    for layer in graph.operations if graph else ():
        yield f"{prefix}{layer.name}"
        yield from _paths(layer, f"{prefix}{layer.name}/")


def _name_of(block, layer):
    """The block's own name, or one after the layer for a name that Keras gave."""
    given = re.sub(r"_\d+$", "", block.name).replace("_", "")
    is_default = given == type(block).__name__.lower()
    return f"{layer.name}_nonlocal" if is_default else block.name


# === Checks ===


def _check_arguments(model, after):
    if graph_of(model) is None:
        raise ValueError(
            "insert_blocks needs a functional keras.Model, or a Sequential one that "
            "has been built. A model with a `call` of its own has no graph that could "
            f"be changed: use the block in its `call`. Received: model={model!r}."
        )
    is_dict = (
        isinstance(after, dict) and after and all(isinstance(x, str) for x in after)
    )
    if not is_dict or not all(isinstance(x, BaseNonLocal) for x in after.values()):
        expected = "a dict such as {'conv4_block5_out': NonLocalBlock()}"
        raise invalid_argument("after", after, expected, owner="insert_blocks")


def _check_name(path, names, others):
    parent = path.rpartition("/")[0]
    beside = [
        name for other, name in names.items() if other.rpartition("/")[0] == parent
    ]
    if names[path] in others or beside.count(names[path]) > 1:
        reason = (
            f"there is a layer {names[path]!r} already; give the block another name"
        )
        raise _error(
            path, f"{reason}, as in NonLocalBlock(name={names[path] + '_2'!r})"
        )


def _check_place(path, layer, block):
    """Tries a copy of the block on a layer's outputs; the block is left as it is."""
    if block.built:
        raise _error(path, f"block {block.name!r} is in use: pass a new one")
    if isinstance(layer, keras.layers.InputLayer):
        raise _error(path, "blocks follow layers, and this is an input")
    outputs = keras.tree.flatten(layer.output)
    if len(outputs) > 1:
        raise _error(path, f"the layer has {len(outputs)} outputs, a block takes one")
    trial = type(block).from_config(block.get_config())
    if trial.compute_dtype != outputs[0].dtype:
        raise _error(path, _wrong_dtype(layer, outputs[0].dtype, trial))
    try:
        trial.build(outputs[0].shape)
    except ValueError as error:
        raise _error(path, str(error).rstrip(".")) from error
    if not trial.is_identity:
        zeros = "gamma and beta" if trial.norm else "W_z and its bias"
        reason = f"{type(block).__name__} {block.name!r} would change the outputs"
        raise _error(path, f"{reason}; {zeros} must be zero at first")


def _wrong_dtype(layer, dtype, block):
    kept = getattr(layer, "variable_dtype", dtype)
    policy = dtype if kept == dtype else f"mixed_{dtype}"
    return (
        f"the outputs are {dtype}, and the block computes in {block.compute_dtype}. "
        f"Use {type(block).__name__}(dtype={policy!r})"
    )
