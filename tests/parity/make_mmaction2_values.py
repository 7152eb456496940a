"""Writes mmaction2.npz: what open-mmlab/mmaction2 computes on seeded weights.

Run beside a checkout of that project (it supplies numbers only, no code), with what
it imports installed (mmengine, mmcv-lite 2.1, torchvision, einops, decord, ...):

    python tests/parity/make_mmaction2_values.py /path/to/mmaction2
"""

import pathlib
import sys

import recording
import torch

CALM = {"theta.": 0.3, "phi.": 0.3}
I3D = "i3d/i3d_imagenet-pretrained-r50"
SCHEDULE = "8xb8-32x2x1-100e_kinetics400-rgb"

# Name: (the project's config, mode if not the config's, scales of weights).
NETWORKS = {
    "i3d_r50": (f"{I3D}_{SCHEDULE}", None, {}),
    "i3d_nl_embedded_gaussian_r50": (
        f"{I3D}-nl-embedded-gaussian_{SCHEDULE}",
        None,
        {},
    ),
    "i3d_nl_gaussian_r50": (f"{I3D}-nl-gaussian_{SCHEDULE}", None, {}),
    "i3d_nl_dot_product_r50": (f"{I3D}-nl-dot-product_{SCHEDULE}", None, CALM),
    # None of its configs has this mode; its block does.
    "i3d_nl_concatenation_r50": (
        f"{I3D}-nl-dot-product_{SCHEDULE}",
        "concatenation",
        CALM,
    ),
    "c2d_r50": ("c2d/c2d_r50-in1k-pre_8xb32-8x8x1-100e_kinetics400-rgb", None, {}),
}
SIZES = {"i3d": ("8x224x224", "32x224x224"), "c2d": ("8x224x224",)}


def build(project, config, mode):
    from mmaction.registry import MODELS
    from mmaction.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    cfg = Config.fromfile(project / f"configs/recognition/{config}.py").model
    cfg.backbone.pretrained = None
    if mode:
        cfg.backbone.non_local_cfg.mode = mode
    return MODELS.build(cfg).eval()


def logits(model, size):
    return model.cls_head(model.backbone(recording.clip(size))).numpy()


@torch.no_grad()
def main():
    project = pathlib.Path(sys.argv[1])
    sys.path.insert(0, str(project))
    networks = {}
    for name, (config, mode, scales) in NETWORKS.items():
        model = build(project, config, mode)
        networks[name] = recording.randomise(model.state_dict(), scales)
        for size in SIZES[name[:3]]:
            networks[name][size] = logits(model, size)
    recording.write("mmaction2", networks)


if __name__ == "__main__":
    main()
