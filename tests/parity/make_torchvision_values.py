"""Writes torchvision.npz: what torchvision's ResNets compute on seeded weights.

Run beside a checkout of that project (it supplies numbers only, no code) or, without
an argument, with torchvision installed:

    python tests/parity/make_torchvision_values.py [/path/to/vision]
"""

import sys

import recording
import torch

# Name: frames of 64 x 64, so that res5 is 2 x 2.
NETWORKS = {"resnet50": "1x64x64", "resnet101": "1x64x64"}
CHANNELS = 8  # every 8th of res5's is kept


def features(model, images):
    """`(1, H, W, C)` of the last stage."""
    found = []
    hook = model.layer4.register_forward_hook(
        lambda module, inputs, output: found.append(output)
    )
    model(images)
    hook.remove()
    return found[0].permute(0, 2, 3, 1)[..., ::CHANNELS].numpy()


@torch.no_grad()
def main():
    sys.path[:0] = sys.argv[1:]
    from torchvision.models import resnet

    networks = {}
    for name, size in NETWORKS.items():
        model = getattr(resnet, name)().eval()
        networks[name] = recording.randomise(model.state_dict())
        image = recording.clip(size)[:, :, 0]
        networks[name]["logits"] = model(image).numpy()
        networks[name]["res5"] = features(model, image)
    recording.write("torchvision", networks)


if __name__ == "__main__":
    main()
