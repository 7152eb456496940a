"""What networks of ours compute beside their weights, from their own configs."""

from collections.abc import Mapping

from keras import ops

from keras_nonlocal.convert.targets import check_paths, layers_of
from keras_nonlocal.layers.base_non_local import BaseNonLocal
from keras_nonlocal.models.convolution import PaddedConv3D
from keras_nonlocal.models.pooling import PaddedMaxPooling3D

_OURS = (BaseNonLocal, PaddedConv3D, PaddedMaxPooling3D)
_BLOCK_OPTIONS = ("mode", "sub_sample", "scope", "group_size")


def content_of(model):
    """A model as a `.keras` file of it would be read."""
    check_paths(model)
    return {
        "model": {x.path: ops.convert_to_numpy(x) for x in model.weights},
        "config": {"config": {"layers": [{"config": x} for x in _configs(model)]}},
    }


def departures(model, content):
    """How `model` computes otherwise than the network in a file, a line each.

    Files without a config tell nothing. Strides in time may differ: a network may go
    on from short clips to long ones.

    Example:
    >>> saved = content_of(C2D(14, 2, width=8, convention="pyslowfast"))
    >>> list(departures(C2D(14, 2, width=8), saved))
    ["pool1 has pad=0, the file's 1: see `convention`"]
    """
    theirs = {x.get("name"): _facts(x) for x in _saved_configs(content)}
    for config in _configs(model):
        for option, value in _facts(config).items():
            wanted = theirs.get(config["name"], {}).get(option, value)
            if value != wanted:
                yield (
                    f"{config['name']} has {option}={value!r}, the file's {wanted!r}: "
                    f"see {_ARGUMENTS.get(option, '`non_local_options`')}"
                )


_ARGUMENTS = {
    "pad": "`convention`",
    "strides": "`stride_in_1x1`",
    "pool_position": "`convention`",
    "use_scale": "`convention`",
}


def _configs(model):
    return [x.get_config() for x in layers_of(model) if isinstance(x, _OURS)]


def _saved_configs(content):
    """Those of a file, which may hold anything."""
    place = content
    for key in ("config", "config"):
        place = place.get(key) if isinstance(place, Mapping) else None
    layers = place.get("layers") if isinstance(place, Mapping) else None
    layers = layers if isinstance(layers, list) else []
    configs = [x.get("config") for x in layers if isinstance(x, Mapping)]
    return [x for x in configs if isinstance(x, Mapping) and "name" in x]


def _facts(config):
    """What of a layer's config the same weights compute otherwise with."""
    if config["name"] == "pool1" and len(config.get("pad", ())) == 3:
        return {"pad": config["pad"][1]}
    if str(config["name"]).endswith("_branch2a"):
        return {"strides": list(config.get("strides", ()))}
    if "sub_sample" not in config:
        return {}
    facts = {x: config.get(x) for x in _BLOCK_OPTIONS}
    if config["sub_sample"]:
        facts["pool_position"] = config.get("pool_position")
    if config.get("mode") == "embedded_gaussian":
        facts["use_scale"] = config.get("use_scale")
    return facts
