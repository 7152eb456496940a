"""Writes pyslowfast.npz: what facebookresearch/SlowFast computes on seeded weights.

Run beside a checkout of that project (it supplies numbers only, no code), with what
it imports installed (fvcore, iopath, current pytorchvideo, detectron2, ...):

    python tests/parity/make_pyslowfast_values.py /path/to/SlowFast
"""

import pathlib
import sys

import recording
import torch

# Softmax over keys that differ: theta . phi is divided by 16 (res3) or 22 (res4).
SHARP = {"conv_theta.": 1.5, "conv_phi.": 1.5}
# The dot product is cubic in the features; it would grow from block to block.
CALM = {"conv_theta.": 0.3, "conv_phi.": 0.3}

# Name: (the project's config, changes to it, scales of weights).
NETWORKS = {
    "I3D_NLN_8x8_R50": ("I3D_NLN_8x8_R50", [], SHARP),
    "C2D_NLN_8x8_R50": ("C2D_NLN_8x8_R50", [], SHARP),
    "I3D_8x8_R50": ("I3D_8x8_R50", [], {}),
    "C2D_8x8_R50": ("C2D_8x8_R50", [], {}),
    "I3D_NLN_8x8_R50_dot_product": (
        "I3D_NLN_8x8_R50",
        ["NONLOCAL.INSTANTIATION", "dot_product"],
        CALM,
    ),
    "I3D_NLN_8x8_R101": ("I3D_NLN_8x8_R101", [], SHARP),
}


def build(project, config, changes):
    from slowfast.config.defaults import get_cfg
    from slowfast.models import build_model

    cfg = get_cfg()
    cfg.merge_from_file(project / f"configs/Kinetics/{config}.yaml")
    cfg.merge_from_list(["NUM_GPUS", 0, *changes])
    return build_model(cfg).eval()


def logits(model, size):
    """Logits, from the classifier: the model itself returns probabilities."""
    found = []
    hook = model.head.projection.register_forward_hook(
        lambda module, inputs, output: found.append(output)
    )
    model([recording.clip(size)])
    hook.remove()
    return found[0].mean((1, 2, 3)).numpy()


@torch.no_grad()
def main():
    project = pathlib.Path(sys.argv[1])
    sys.path.insert(0, str(project))
    networks = {}
    for name, (config, changes, scales) in NETWORKS.items():
        model = build(project, config, changes)
        networks[name] = recording.randomise(model.state_dict(), scales)
        networks[name]["8x224x224"] = logits(model, "8x224x224")
    recording.write("pyslowfast", networks)


if __name__ == "__main__":
    main()
