"""PySlowFast (facebookresearch/SlowFast): C2D and I3D, with non-local blocks."""

import re

import numpy as np

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.sources.names import branches
from keras_nonlocal.convert.sources.source import Source

_STATISTIC = re.compile(r"(?P<layer>.*bn)\.(?P<of>bn|split_bn)\.running_(mean|var)")


def _merge_splits(state):
    """Statistics of sub-batch normalisation as those of one normalisation.

    While training `split_bn` keeps a mean and a variance for every part of the
    batch; `bn` has those of the whole, aggregated before it is saved.
    """
    merged = {}
    for name, array in state.items():
        match = _STATISTIC.fullmatch(name)
        if match is None:
            merged[name] = array
        elif match["of"] == "bn":
            merged[f"{match['layer']}.running_{match[3]}"] = array
        elif f"{match['layer']}.bn.running_{match[3]}" not in state:
            merged[f"{match['layer']}.running_{match[3]}"] = _aggregate(
                state, match["layer"], match[3]
            )
    return merged


def _aggregate(state, layer, statistic):
    """Mean over the parts; the variance also has that of the parts' means."""
    names = (f"{layer}.split_bn.running_mean", f"{layer}.split_bn.running_var")
    num_channels = np.size(state.get(f"{layer}.weight", ()))
    try:
        means, variances = (np.reshape(state[x], (-1, num_channels)) for x in names)
    except (KeyError, ValueError):
        raise CheckpointError(
            f"The parts of {layer!r} do not make one normalisation. Expected "
            f"{names[0]!r} and {names[1]!r}, of a whole number of times the "
            f"{num_channels} channels of {layer + '.weight'!r}."
        ) from None
    if statistic == "mean":
        return means.mean(0)
    return variances.mean(0) + means.var(0)


_MODES = {"softmax": "embedded_gaussian", "dot_product": "dot_product"}


def _block_options(state, content):
    """The mode, from the config that training saves beside the weights."""
    config = content.get("cfg")
    config = config if isinstance(config, str) else ""
    found = re.search(rf"\bINSTANTIATION: ({'|'.join(_MODES)})\b", config)
    return {"modes": (_MODES[found[1]],)} if found else {}


SOURCE = Source(
    name="pyslowfast",
    convention="pyslowfast",
    names={
        "s1.pathway0_stem.conv.weight": "conv1/kernel",
        "s1.pathway0_stem.bn.{bn}": "conv1_bn/{bn}",
        "s{s}.pathway0_res{i}.{branch}.weight": "res{s}_{i}_{branch}/kernel",
        "s{s}.pathway0_res{i}.{branch}_bn.{bn}": "res{s}_{i}_{branch}_bn/{bn}",
        "s{s}.pathway0_nonlocal{i}.conv_{one}.{w}": "res{s}_{i}_nonlocal/{one}/{w}",
        "s{s}.pathway0_nonlocal{i}.bn.{bn}": "res{s}_{i}_nonlocal/norm/{bn}",
        "head.projection.{w}": "pred/{w}",
    },
    fields={
        "branch": branches("branch1", "branch2.a", "branch2.b", "branch2.c"),
        "one": {"theta": "theta", "phi": "phi", "g": "g", "out": "w_z"},
    },
    others={r"\.pathway1_": "a SlowFast network of two pathways"},
    normalize=_merge_splits,
    block_options=_block_options,
)
