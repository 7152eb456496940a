"""Copies of functional models, in which layers may be followed by others."""

import inspect

import keras


def graph_of(layer):
    """The functional model that a layer is, and None if it is none.

    A Sequential model that knows its input is one, too. Models with a `call` of their
    own are none: their graph would not be what they compute.
    """
    if not isinstance(layer, keras.Model):
        return None
    if type(layer).call.__module__.split(".")[0] != "keras":
        return None
    if isinstance(layer, keras.Sequential):
        if not hasattr(layer, "inputs"):  # unknown yet
            return None
        return keras.Model(layer.inputs[0], layer.outputs[0], name=layer.name)
    return layer if hasattr(layer, "operations") else None


def copy_model(model, follow):
    """Copies a functional model with its weights.

    Models within it are copied in the same way; what they share stays shared.

    Args:
        model: `keras.Model` that `graph_of` accepts.
        follow: Called with an operation of `model` (or of a model within it) and its
            symbolic outputs in the copy, for each of its calls; returns what is to
            be used in their place.

    Returns:
        `keras.Model`, not compiled.

    Raises:
        ValueError: A layer that cannot be copied, by name.
    """
    copies = _Copies(follow)
    new = copies.of_model(model, frozen=not model.trainable)
    copies.transfer_weights(model)
    return new


class _Copies:
    """Operations and their copies.

    Args:
        follow: See `copy_model`.
    """

    def __init__(self, follow):
        self._follow = follow
        self._originals = {}  # by the id of their copies
        self._made = {}  # (original, copy, is frozen) by the id of the original

    def of_model(self, model, frozen):
        # A model of its own: clone_model would compile a copy of a compiled one.
        graph = graph_of(model)
        graph = keras.Model(graph.input, graph.output, name=model.name)
        copy = keras.models.clone_model(
            graph,
            input_tensors=keras.tree.map_structure(_copy_input, graph.input),
            clone_function=lambda operation: self._copy(operation, frozen),
            call_function=self._call,
        )
        return _in_class_of(model, copy)

    def _copy(self, operation, frozen):
        if id(operation) not in self._made:
            if graph_of(operation) is None:
                copy = _copy_operation(operation)
            else:
                copy = self.of_model(operation, frozen or not operation.trainable)
            self._made[id(operation)] = (operation, copy, frozen)
            self._originals[id(copy)] = operation
        return self._made[id(operation)][1]

    def _call(self, copy, *args, **kwargs):
        return self._follow(self._originals[id(copy)], copy(*args, **kwargs))

    def transfer_weights(self, model):
        made = [
            (original, copy, frozen)
            for original, copy, frozen in self._made.values()
            if isinstance(original, keras.Layer) and graph_of(original) is None
        ]
        _check_all_are_copied(model, made)
        for original, copy, frozen in made:
            if copy is not original:
                _transfer(original, copy, frozen)


def _copy_input(tensor):
    config = tensor._keras_history.operation.get_config()
    return keras.layers.InputLayer.from_config(config).output


def _in_class_of(model, copy):
    """The copy as a model of the same class, if that is created from a graph."""
    _, *arguments = inspect.signature(type(model).__init__).parameters
    arguments = [name for name in arguments if name != "kwargs"]
    takes_graph = arguments in (["inputs", "outputs", "name"], ["args"])
    if type(model) is type(copy) or not takes_graph:
        return copy
    return type(model)(copy.input, copy.output, name=model.name)


def _copy_operation(operation):
    if hasattr(operation, "save_assets"):
        return operation  # a vocabulary, which is not in the config
    try:
        return type(operation).from_config(operation.get_config())
    except (NotImplementedError, TypeError, ValueError) as error:
        if not getattr(operation, "variables", None):
            return operation  # such as a Lambda: nothing in it is trained
        raise ValueError(
            f"Layer {operation.name!r} ({type(operation).__name__}) cannot be copied: "
            "its class needs a `get_config` that holds the arguments of `__init__`. "
            f"{error}"
        ) from error


# === Weights ===


def _check_all_are_copied(model, made):
    """Raises a `ValueError` unless weights and copies correspond one to one."""
    pairs = {}
    for original, copy, _ in made:
        shapes = [
            [tuple(x.shape) for x in layer.variables] for layer in (original, copy)
        ]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"Layer {original.name!r} ({type(original).__name__}) cannot be "
                "copied: created from its config, it has weights of shapes "
                f"{shapes[1]}, not {shapes[0]}."
            )
        both = zip(original.weights, copy.weights, strict=True)
        pairs |= {(id(old), id(new)): old.path for old, new in both}
    old, new = ({pair[i] for pair in pairs} for i in (0, 1))
    if not len(old) == len(new) == len(pairs):
        raise ValueError(
            f"Model {model.name!r} has layers that share a weight without being the "
            "same layer: it cannot be copied."
        )
    outside = [weight.path for weight in model.weights if id(weight) not in old]
    if outside:
        raise ValueError(
            f"Model {model.name!r} has weights outside of its graph, which cannot be "
            f"copied: {outside}."
        )


def _transfer(original, copy, frozen):
    """Gives a copy the weights and the flags of a layer."""
    pairs = zip(original._flatten_layers(), copy._flatten_layers(), strict=True)
    for old, new in pairs:  # parents first: they set the flags of their parts
        new.trainable = old.trainable and not frozen
    for old, new in zip(original.variables, copy.variables, strict=True):
        new.assign(keras.ops.copy(old))  # JAX would delete an array that both use
        new.trainable = old.trainable and not frozen
    for layer in copy._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it keeps its weights in another form as well
