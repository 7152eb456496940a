"""Functions shared by the tests against other projects."""

import numpy as np
import pytest

from keras_nonlocal.convert import load_weights
from tests.backends import to_numpy
from tests.parity import seeded

TOLERANCE = 1e-4


def with_slow(names, slow):
    """Names to parametrise by; those in `slow` are for the slow tier."""
    return [
        pytest.param(name, marks=pytest.mark.slow if name in slow else ())
        for name in names
    ]


def frames(size):
    """`"8x224x224"` to the model's `input_shape`."""
    return (*map(int, size.split("x")), 3)


def assert_same_logits(model, network, size, **options):
    """Loads a `seeded.Network` into `model`; both must compute the same.

    Args:
        model: C2D or I3D.
        network: `seeded.Network`.
        size: Of the clip.
        options: Of `load_weights`.

    Returns:
        `Report`.
    """
    report = load_weights(model, network.state, **options)
    assert set(report.matched) | set(report.filled) == set(weights_of(model))
    assert relative_error(run(model, size), network.outputs[size]) < TOLERANCE
    return report


def run(model, size):
    return to_numpy(model(seeded.clip(size), training=False))


def relative_error(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()


def weights_of(model):
    return {weight.path: to_numpy(weight) for weight in model.weights}


def assert_file_gives_the_same(model, state, path):
    """A file must load with the same result as the dict of arrays in it."""
    load_weights(model, state)
    expected = weights_of(model)
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 0.125, "float32"))
    load_weights(model, path)
    for name, array in weights_of(model).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def tensors(state):
    """The arrays as PyTorch's."""
    import torch

    return {name: torch.from_numpy(array) for name, array in state.items()}
