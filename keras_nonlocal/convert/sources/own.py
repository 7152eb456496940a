"""Networks of this package, from the files and checkpoints of Keras and trainers."""

import re

from keras_nonlocal.convert.sources.keras_names import BN, DENSE, RANDOM, by_layer
from keras_nonlocal.convert.sources.source import Source, keep

_TRAINING = r"(optimizer/|optimizer_|global_step$|save_counter|_CHECKPOINTABLE)"


# The models within a detector, in the paths of its files.
_PARTS = re.compile("(backbone|rpn_head|box_head|mask_head|keypoint_head)/")


def _unwrap(content):
    """The model's weights; what else training keeps is left out."""
    weights = by_layer(content).items()
    return {_PARTS.sub("", x): y for x, y in weights if not re.match(_TRAINING, x)}


def _same(*names):
    return {name: name for name in names}


SOURCE = Source(
    name="keras_nonlocal",
    names={
        "conv1/{w}": "conv1/{w}",
        "conv1_bn/{bn}": "conv1_bn/{bn}",
        "res{s}_{i}_{branch}/{w}": "res{s}_{i}_{branch}/{w}",
        "res{s}_{i}_{branch}_bn/{bn}": "res{s}_{i}_{branch}_bn/{bn}",
        "res{s}_{i}_nonlocal/{one}/{w}": "res{s}_{i}_nonlocal/{one}/{w}",
        "res{s}_{i}_nonlocal/norm/{bn}": "res{s}_{i}_nonlocal/norm/{bn}",
        "pred/{w}": "pred/{w}",
        # Detectors.
        "fpn_{fpn}{s}/{w}": "fpn_{fpn}{s}/{w}",
        "fpn_{fpn}{s}_bn/{bn}": "fpn_{fpn}{s}_bn/{bn}",
        "{head}_conv{i}/{w}": "{head}_conv{i}/{w}",
        "{head}_conv{i}_bn/{bn}": "{head}_conv{i}_bn/{bn}",
        "{head}_{last}/{w}": "{head}_{last}/{w}",
        "keypoint_conv{i}_nonlocal/{one}/{w}": "keypoint_conv{i}_nonlocal/{one}/{w}",
        "keypoint_conv{i}_nonlocal/norm/{bn}": "keypoint_conv{i}_nonlocal/norm/{bn}",
        # A single block.
        "{one}/{w}": "{one}/{w}",
        "norm/{bn}": "norm/{bn}",
    },
    fields={
        "one": _same("theta", "phi", "g", "w_z", "concat_projection"),
        "fpn": _same("lateral", "output"),
        "head": _same("rpn", "box", "mask", "keypoint"),
        "last": _same("fc6", "fc7", "deconv", "logits", "deltas"),
        "bn": BN,
        "w": DENSE,
    },
    ignored=(RANDOM,),
    epsilon=None,
    unwrap=_unwrap,
    layout=keep,
    stride_in_1x1=None,
)
