"""The names that Keras gives the weights of its layers, in each kind of file."""

import re
from collections.abc import Mapping

BN = {x: x for x in ("gamma", "beta", "moving_mean", "moving_variance")}
DENSE = {x: x for x in ("kernel", "bias")}
RANDOM = r".*\bseed_generator.*"  # the state of dropout

# Levels of a file that are no layers; Keras 2 and 3 have different ones.
_CONTAINERS = {"layers", "vars", "model_weights", "model"}

_DEEPEST = 32  # depth of the search


def by_layer(content):
    """Weights by layer and name, from nested dicts or from paths.

    `.weights.h5` and `.keras` files number the weights of a layer; `.h5` files name
    them, and repeat the layer; checkpoints have paths. Config and metadata are left
    out.

    Example:
    >>> by_layer({"layers": {"conv1": {"vars": {"0": 1}}, "conv1_bn": {}}})
    {'conv1/kernel': 1}
    >>> by_layer({"model_weights": {"conv1": {"conv1": {"kernel:0": 1}}}})
    {'conv1/kernel': 1}
    >>> by_layer({"model/conv1/kernel": 1, "global_step": 7})
    {'conv1/kernel': 1, 'global_step': 7}
    """
    if not isinstance(content, Mapping):
        return {}
    content = {k: x for k, x in content.items() if k not in ("config", "metadata")}
    return {"/".join(_path(keys)): x for keys, x in _leaves(content)}


def _leaves(content, above=(), seen=None):
    """Yields `(keys, value)`; numbered weights are named.

    Each dict is looked into once: a damaged file may hold one that holds itself.
    """
    seen = set() if seen is None else seen
    seen.add(id(content))
    names = _names(content) if above and above[-1] == "vars" else {}
    for key, value in content.items():
        keys = (*above, *str(names.get(key, key)).split("/"))
        if not isinstance(value, Mapping):
            yield keys, value
        elif id(value) not in seen and len(keys) < _DEEPEST:
            yield from _leaves(value, keys, seen)


def _names(weights):
    """Names of a layer's numbered weights: four are of a normalisation."""
    names = BN if len(weights) == len(BN) else DENSE
    return {str(i): name for i, name in enumerate(names)}


def _path(keys):
    *layers, weight = keys
    path = []
    for layer in layers:
        if layer not in _CONTAINERS and [layer] != path[-1:]:
            path.append(layer)
    return [*path, re.sub(r":\d+$", "", weight)]
