"""PySlowFast (facebookresearch/SlowFast): C2D and I3D, with non-local blocks."""

from keras_nonlocal.convert.sources.source import Source
from keras_nonlocal.convert.sources.torch_names import BN, DENSE, TRACKED

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
        "s": {digit: digit for digit in "2345"},
        "branch": {
            "branch1": "branch1",
            "branch2.a": "branch2a",
            "branch2.b": "branch2b",
            "branch2.c": "branch2c",
        },
        "one": {"theta": "theta", "phi": "phi", "g": "g", "out": "w_z"},
        "bn": BN,
        "w": DENSE,
    },
    ignored=(TRACKED,),
)
