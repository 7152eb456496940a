"""mmaction2 (open-mmlab): I3D with and without non-local blocks, and C2D."""

import re

from keras_nonlocal.convert.arrays import identity_norm
from keras_nonlocal.convert.sources.names import LAYERS, branches
from keras_nonlocal.convert.sources.source import Source

# Networks that have these in the names of their weights.
_OTHERS = {
    r"\.net\.|\.\d+\.block\.": (
        "a TSM, which shifts channels in time before convolutions"
    ),
    r"\.(slow|fast)_path\.": "a SlowFast network of two pathways",
    r"\.conv_(s|t)\.": "an R(2+1)D, whose convolutions are split in space and time",
}


def _defaults(arrays):
    """Without a normalisation W_z has a bias, and with one it has none."""
    blocks = [path for path in arrays if "_nonlocal/" in path]
    if any("/norm/" in path for path in blocks):
        return {"w_z/bias": 0.0}
    return identity_norm(SOURCE.epsilon)


def _block_options(state, content):
    """From the names, and from the config that training saves beside the weights.

    With sub-sampling g and its pooling are a pair: `g.0` and `g.1`.
    """
    options = {"sub_sample": any(".non_local_block.g.0." in name for name in state)}
    if stated := _OPTIONS.search(_config(content)):
        mode = _MODE.search(stated[1])
        options["modes"] = (mode[1] if mode else "embedded_gaussian",)
        options["use_scale"] = "use_scale=False" not in stated[1]
    return options


# Possessive: no backtracking where the text does not match.
_OPTIONS = re.compile(r"\bnon_local_cfg=dict\(((?:[^()]++|\([^()]*+\))*+)\)")
_LONGEST = 2**20  # characters; configs have some 10^4
_MODE = re.compile(r"\bmode='(\w+)'")


def _config(content):
    meta = content.get("meta")
    texts = [meta.get(x) for x in ("cfg", "config")] if isinstance(meta, dict) else []
    return next((text for text in texts if isinstance(text, str)), "")[:_LONGEST]


SOURCE = Source(
    name="mmaction2",
    convention="mmaction2",
    names={
        "backbone.conv1.conv.weight": "conv1/kernel",
        "backbone.conv1.bn.{bn}": "conv1_bn/{bn}",
        "backbone.{res}.{i}.{conv}.conv.weight": "{res}_{i}_{conv}/kernel",
        "backbone.{res}.{i}.{conv}.bn.{bn}": "{res}_{i}_{conv}_bn/{bn}",
        "backbone.{res}.{i}.non_local_block.{one}.{w}": "{res}_{i}_nonlocal/{one}/{w}",
        "backbone.{res}.{i}.non_local_block.conv_out.bn.{bn}": (
            "{res}_{i}_nonlocal/norm/{bn}"
        ),
        "backbone.{res}.{i}.non_local_block.concat_project.conv.weight": (
            "{res}_{i}_nonlocal/concat_projection/kernel"
        ),
        "cls_head.fc_cls.{w}": "pred/{w}",
    },
    fields={
        "res": LAYERS,
        "conv": branches("downsample", "conv1", "conv2", "conv3"),
        "one": {
            "theta.conv": "theta",
            **dict.fromkeys(["phi.conv", "phi.0.conv"], "phi"),  # .0: sub-sampled
            **dict.fromkeys(["g.conv", "g.0.conv"], "g"),
            "conv_out.conv": "w_z",
        },
    },
    ignored=(r".*\bnum_batches_tracked", r"data_preprocessor\..*"),
    others=_OTHERS,
    defaults=_defaults,
    block_options=_block_options,
)
