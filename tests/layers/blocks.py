"""Building blocks with random weights, and their reference values."""

import keras
import numpy as np

from keras_nonlocal import NonLocal1D, NonLocal2D, NonLocal3D
from tests import reference
from tests.backends import FLOAT, to_numpy

LAYERS = {1: NonLocal1D, 2: NonLocal2D, 3: NonLocal3D}
SHAPES = {1: (2, 7, 4), 2: (2, 5, 4, 4), 3: (2, 4, 3, 5, 4)}
REFERENCE_OPTIONS = (
    "mode sub_sample pool_position use_scale normalization scope group_size"
).split()


def random_block(rank=3, layer_class=None, **options):
    """A built layer, every weight (BN statistics included) drawn at random."""
    layer = (layer_class or LAYERS[rank])(dtype=FLOAT, **options)
    shape = SHAPES[rank]
    if options.get("data_format") == "channels_first":
        shape = (shape[0], shape[-1], *shape[1:-1])
    layer.build(shape)
    rng = np.random.default_rng(7)
    for weight in layer.weights:
        value = rng.normal(size=weight.shape)
        if weight.path.endswith("moving_variance"):
            value = np.abs(value) + 0.5
        weight.assign(value.astype(FLOAT))
    return layer


def random_input(rank=3, seed=0):
    return np.random.default_rng(seed).normal(size=SHAPES[rank]).astype(FLOAT)


def weights_by_path(layer):
    """`theta/kernel` and so on to float64 arrays."""
    return {
        w.path.split("/", 1)[1]: to_numpy(w).astype("float64") for w in layer.weights
    }


def expected_output(layer, x, weights=None, training=False):
    """The block's output straight from the equations, channels last."""
    options = {name: getattr(layer, name) for name in REFERENCE_OPTIONS}
    weights = weights_by_path(layer) if weights is None else weights
    return reference.block(x.astype("float64"), weights, training=training, **options)


def functional(layer, shape, **call_options):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs, **call_options))
