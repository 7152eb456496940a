"""Fills a network and writes its file, for the `make_*_values.py`."""

import pathlib

import numpy as np
import seeded
import torch


def randomise(state, scales=None):
    """Draws every weight and statistic by its name, in place.

    Args:
        state: `state_dict()` of a model, or another dict of its tensors.
        scales: Part of a weight's name to a factor.

    Returns:
        Arrays `names`, `shapes`, `seeds` and `scales`, as `seeded.read` expects.
        A tensor of two names is drawn by the first.
    """
    rows, first = [], {}
    for name, tensor in state.items():
        seed = seeded.seed_of(first.setdefault(tensor.data_ptr(), name))
        scale = scale_of(name, scales or {})
        shape = " ".join(map(str, tensor.shape))
        rows.append((name, shape, seed, scale))
        values = seeded.draw(name, tuple(tensor.shape), seed, scale)
        tensor.copy_(torch.from_numpy(values))
    names, shapes, seeds, factors = zip(*rows, strict=True)
    return table(names, shapes, seeds, factors)


def scale_of(name, scales):
    return next((scale for part, scale in scales.items() if part in name), 1)


def table(names, shapes, seeds, factors):
    return {
        "names": np.array(names),
        "shapes": np.array(shapes),
        "seeds": np.array(seeds, "uint32"),
        "scales": np.array(factors, "float64"),
    }


def clip(size):
    """The seeded clip as PyTorch's networks take it: `(1, 3, T, H, W)`."""
    return torch.from_numpy(np.moveaxis(seeded.clip(size), -1, 1).copy())


def write(project, networks):
    """Writes `<project>.npz`.

    Args:
        project: Name of the file.
        networks: Name to the arrays that `seeded.read` reads for that network.
    """
    path = pathlib.Path(__file__).with_name(f"{project}.npz")
    arrays = {
        f"{n}/{key}": v for n, part in networks.items() for key, v in part.items()
    }
    np.savez_compressed(path, **arrays)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
