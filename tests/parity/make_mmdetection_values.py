"""Writes mmdetection.npz: what open-mmlab/mmdetection computes on seeded weights.

The backbone, FPN and BFP (balanced pyramid) of its Libra R-CNN, with fewer channels.
Needs mmdet 3.3, mmengine and mmcv-lite 2.1 (its modules that need mmcv's compiled
operations are not imported):

    python tests/parity/make_mmdetection_values.py
"""

import importlib.util
import pathlib
import sys
import types

import mmdet
import numpy as np
import recording
import torch

SIZES = ((96, 160), (75, 141))  # padded as in training, and not
CALM = {"theta.": 0.3, "phi.": 0.3}
CHANNELS = 16


def load(name):
    """A module of mmdet.models, without running the packages that it is in."""
    folder = pathlib.Path(mmdet.__file__).parent / "models"
    for package in ("", ".layers", ".backbones", ".necks"):
        module = types.ModuleType(f"mmdet.models{package}")
        module.__path__ = [str(folder / package[1:])]
        sys.modules.setdefault(module.__name__, module)
    path = folder / f"{name.replace('.', '/')}.py"
    spec = importlib.util.spec_from_file_location(f"mmdet.models.{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build():
    layers = load("layers.res_layer")
    sys.modules["mmdet.models.layers"].ResLayer = layers.ResLayer
    model = torch.nn.Module()
    model.backbone = load("backbones.resnet").ResNet(
        50, base_channels=8, norm_cfg={"type": "BN"}, style="pytorch"
    )
    levels = [32, 64, 128, 256]
    fpn = load("necks.fpn").FPN(levels, CHANNELS, num_outs=5)
    bfp = load("necks.bfp").BFP(
        CHANNELS, num_levels=5, refine_level=2, refine_type="non_local"
    )
    model.neck = torch.nn.Sequential(fpn, bfp)
    return model.eval()


@torch.no_grad()
def main():
    model = build()
    network = recording.randomise(model.state_dict(), CALM)
    image = recording.clip("1x96x160")[:, :, 0]
    for height, width in SIZES:
        features = model.backbone(image[:, :, :height, :width])
        for level, x in enumerate(model.neck(features), 2):
            array = np.moveaxis(x.numpy(), 1, -1)
            network[f"{height}x{width}/{level}"] = array
    recording.write("mmdetection", {"libra": network})


if __name__ == "__main__":
    main()
