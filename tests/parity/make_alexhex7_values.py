"""Writes alexhex7.npz: what AlexHex7/Non-local_pytorch computes on given weights.

Run beside a checkout of that project (it supplies numbers only, no code):

    python tests/parity/make_alexhex7_values.py /path/to/Non-local_pytorch
"""

import importlib
import pathlib
import sys

import numpy as np
import torch

MODES = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")
SPACE = {1: (9,), 2: (7, 6), 3: (3, 5, 4)}
CHANNELS = 6


def values(mode, rank, sub_sample, bn_layer):
    """Weights, input, output and gradients of one randomised block."""
    module = importlib.import_module(f"lib.non_local_{mode}")
    block = getattr(module, f"NONLocalBlock{rank}D")(
        CHANNELS, sub_sample=sub_sample, bn_layer=bn_layer
    ).eval()
    generator = torch.Generator().manual_seed(rank)
    with torch.no_grad():
        for name, tensor in block.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(noise.abs() + 0.5 if "running_var" in name else noise)
    x = torch.randn((2, CHANNELS, *SPACE[rank]), generator=generator)
    x.requires_grad_()
    y = block(x)
    cotangent = torch.randn(y.shape, generator=generator)
    (y * cotangent).sum().backward()
    state = {f"weight/{k}": v for k, v in block.state_dict().items()}
    grads = {f"gradient/{k}": p.grad for k, p in block.named_parameters()}
    grads["gradient/x"] = x.grad
    return state | grads | {"x": x, "y": y, "cotangent": cotangent}


def main():
    sys.path.insert(0, sys.argv[1])
    arrays = {}
    for mode in MODES:
        for rank in SPACE:
            for sub_sample in (True, False):
                for bn_layer in (True, False):
                    case = f"{mode}/{rank}/{sub_sample}/{bn_layer}"
                    for name, t in values(mode, rank, sub_sample, bn_layer).items():
                        arrays[f"{case}/{name}"] = t.detach().numpy()
    target = pathlib.Path(__file__).with_name("alexhex7.npz")
    np.savez_compressed(target, **arrays)
    print(f"{target}: {target.stat().st_size / 1e3:.0f} kB, {len(arrays)} arrays")


if __name__ == "__main__":
    main()
