"""GluonCV (dmlc), its PyTorch models: I3D with and without non-local blocks."""

from keras_nonlocal.convert.sources.source import Source

SOURCE = Source(
    name="gluoncv",
    convention="gluoncv",
    names={
        "first_stage.0.weight": "conv1/kernel",
        "first_stage.1.{bn}": "conv1_bn/{bn}",
        "res_layers.{s}.{i}.conv{c}.weight": "res{s}_{i}_branch2{c}/kernel",
        "res_layers.{s}.{i}.bn{c}.{bn}": "res{s}_{i}_branch2{c}_bn/{bn}",
        "res_layers.{s}.{i}.downsample.0.weight": "res{s}_{i}_branch1/kernel",
        "res_layers.{s}.{i}.downsample.1.{bn}": "res{s}_{i}_branch1_bn/{bn}",
        "res_layers.{s}.{i}.nonlocal_block.{one}.{w}": "res{s}_{i}_nonlocal/{one}/{w}",
        "res_layers.{s}.{i}.nonlocal_block.{norm}.{bn}": (
            "res{s}_{i}_nonlocal/norm/{bn}"
        ),
        "{fc}.{w}": "pred/{w}",
    },
    # Some weights have two names: W and its normalisation, and the classifier.
    fields={
        "s": {str(k): str(k + 2) for k in (0, 1, 2, 3)},
        "one": {"theta": "theta", "phi": "phi", "g": "g", "W": "w_z", "W_bn.0": "w_z"},
        "norm": {"bn": "norm", "W_bn.1": "norm"},
        "fc": {"fc": "pred", "head.1": "pred"},
    },
)
