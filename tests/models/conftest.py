import numpy as np
import pytest


def _randomize(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if weight.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            value = rng.normal(0, 0.1, shape)
        else:
            value = rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape)
        weight.assign(value)
    return model


@pytest.fixture(scope="session")
def randomize():
    """Sets all weights, zero-initialised ones too, to values of typical size.

    The values are the same on every backend.
    """
    return _randomize
