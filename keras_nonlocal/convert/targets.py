"""The weights of a model, as the places that arrays go to."""

import dataclasses

import keras

from keras_nonlocal.convert.inference import layers_of
from keras_nonlocal.layers import BatchNormalization


@dataclasses.dataclass(frozen=True)
class Target:
    """One weight of ours, and the epsilon of the normalisation whose variance it is."""

    variable: keras.Variable
    epsilon: float | None = None

    @property
    def shape(self):
        return tuple(self.variable.shape)


def find_targets(model):
    """`Target`s of a built model by path; those of a layer without its own name."""
    if not isinstance(model, keras.Layer) or not model.weights:
        raise ValueError(
            f"load_weights needs a model, or a layer, that has been built: call it "
            f"once, or its `build`. Received: {model!r}."
        )
    check_paths(model)
    norms = [getattr(layer, "norm", None) or layer for layer in layers_of(model)]
    epsilons = {
        id(norm.moving_variance): norm.epsilon
        for norm in norms
        if isinstance(norm, BatchNormalization)
    }
    prefix = "" if isinstance(model, keras.Model) else f"{model.path}/"
    return {
        variable.path.removeprefix(prefix): Target(variable, epsilons.get(id(variable)))
        for variable in model.weights
    }


def check_paths(model):
    """Raises a `ValueError` for two networks in one model: their names are the same."""
    paths = [variable.path for variable in model.weights]
    for path in (x for x in paths if paths.count(x) > 1):
        raise ValueError(
            f"load_weights needs a model of one network, and {model.name!r} has "
            f"{paths.count(path)} weights of the name {path!r}: load each network "
            "by itself, before or after they are joined."
        )
