"""Writes gluoncv.npz: what dmlc/gluon-cv computes on seeded weights.

Run beside a checkout of that project (it supplies numbers only, no code):

    python tests/parity/make_gluoncv_values.py /path/to/gluon-cv
"""

import importlib
import pathlib
import sys
import types

import recording
import torch

SHARP = {"theta.": 1.5, "phi.": 1.5}
NETWORKS = {
    "i3d_resnet50_v1_kinetics400": {},
    "i3d_nl5_resnet50_v1_kinetics400": SHARP,
    "i3d_nl10_resnet50_v1_kinetics400": SHARP,
    "i3d_nl5_resnet101_v1_kinetics400": SHARP,
}
SIZES = ("8x224x224", "32x224x224")


def zoo(project):
    """Its module of I3D networks, without the imports of its packages.

    `gluoncv/__init__.py` refuses PyTorch 2, and others want video readers.
    """
    path = pathlib.Path(project)
    name = ""
    for part in ("gluoncv", "torch", "model_zoo", "action_recognition"):
        path, name = path / part, f"{name}.{part}".lstrip(".")
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(path)]
    module = importlib.import_module(f"{name}.i3d_resnet")
    # It would download ImageNet weights, which are overwritten below.
    module.I3D_ResNetV1.inflate_weights = lambda self: None
    return module


def config():
    """The part of the project's configuration that the networks read."""
    of = types.SimpleNamespace
    model = of(
        PRETRAINED=False,
        PRETRAINED_BASE=True,
        BN_EVAL=False,
        PARTIAL_BN=False,
        BN_FROZEN=False,
    )
    data = of(NUM_CLASSES=400, NUM_SEGMENT=1, NUM_CROP=1)
    return of(CONFIG=of(MODEL=model, DATA=data, INFERENCE=of(FEAT=False)))


@torch.no_grad()
def main():
    module = zoo(sys.argv[1])
    networks = {}
    for name, scales in NETWORKS.items():
        model = getattr(module, name)(config()).eval()
        networks[name] = recording.randomise(model.state_dict(), scales)
        for size in SIZES:
            networks[name][size] = model(recording.clip(size)).numpy()
    recording.write("gluoncv", networks)


if __name__ == "__main__":
    main()
