"""What networks of ours compute beside their weights, from their own configs."""

from collections.abc import Mapping

from keras import ops

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.targets import check_paths, layers_of
from keras_nonlocal.layers import BaseNonLocal, PaddedConv3D, PaddedMaxPooling3D
from keras_nonlocal.models import CONVENTIONS, STEMS

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


def told_by_config(content):
    """The arguments of C2D and I3D that a file's config tells; `{}` without one.

    Several conventions may build the same network: `"conventions"` has them all.

    Raises:
        CheckpointError: Non-local blocks that differ, or pools of no convention.

    Example:
    >>> saved = content_of(I3D(14, 2, width=8, convention="paper", stem="32x2"))
    >>> told_by_config(saved)
    {'stem': '32x2', 'conventions': ('paper',), 'stride_in_1x1': False}
    """
    configs = {x["name"]: x for x in _saved_configs(content)}
    if not {"conv1", "pool1", "pool2", "res3_0_branch2a"} <= configs.keys():
        return {}
    try:
        return _told(configs)
    except (LookupError, TypeError, StopIteration) as error:
        raise CheckpointError(
            f"Its config is damaged ({error!r}). Expected that of a C2D or an I3D."
        ) from error


def _told(configs):
    stride = configs["conv1"]["strides"][0]
    blocks = [x for x in configs.values() if "sub_sample" in x]
    told = {
        "stem": next(name for name, taken in STEMS.items() if taken == stride),
        "conventions": _conventions(configs, stride > 1),
        "stride_in_1x1": configs["res3_0_branch2a"]["strides"][1] > 1,
    }
    if any(_block_options(block) != _block_options(blocks[0]) for block in blocks):
        raise CheckpointError(
            "Its non-local blocks differ from one another: build the same network, "
            "and load the file with keras_nonlocal.convert.load_weights."
        )
    return told | ({"non_local_options": _block_options(blocks[0])} if blocks else {})


def _block_options(config):
    return {x: config[x] for x in (*_BLOCK_OPTIONS, "pool_position", "use_scale")}


def _conventions(configs, is_long):
    """Names of the conventions that pool as the config does."""
    pool1, pool2 = configs["pool1"], configs["pool2"]
    architecture = "i3d" if configs["conv1"]["kernel_size"][0] > 1 else "c2d"
    pools = pool1["pad"][1], pool1["pool_size"][0], pool2["pool_size"][0]
    names = tuple(
        name
        for name, x in CONVENTIONS.items()
        if pools
        == (
            int(architecture in x.padded_pool1),
            x.pool1_frames if is_long else 1,
            x.pool2_frames,
        )
    )
    if not names:
        raise LookupError("pools of no convention")
    return names


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
