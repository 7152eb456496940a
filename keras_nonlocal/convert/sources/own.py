"""Networks of this package, from the files and checkpoints of Keras and trainers."""

import re

from keras_nonlocal.convert.sources.keras_names import BN, DENSE, RANDOM, by_layer
from keras_nonlocal.convert.sources.source import Source, keep

_TRAINING = r"(optimizer/|optimizer_|global_step$|save_counter|_CHECKPOINTABLE)"


def _unwrap(content):
    """The model's weights; what else training keeps is left out."""
    weights = by_layer(content)
    return {x: array for x, array in weights.items() if not re.match(_TRAINING, x)}


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
        # A single block.
        "{one}/{w}": "{one}/{w}",
        "norm/{bn}": "norm/{bn}",
    },
    fields={
        "one": {x: x for x in ("theta", "phi", "g", "w_z", "concat_projection")},
        "bn": BN,
        "w": DENSE,
    },
    ignored=(RANDOM,),
    epsilon=None,
    unwrap=_unwrap,
    layout=keep,
    stride_in_1x1=None,
)
