import numpy as np
import pytest

from tests.backends import RTOL, layer_gradients
from tests.layers.blocks import (
    expected_output,
    random_block,
    random_input,
    weights_by_path,
)

MODES = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "options",
    [{"mode": mode} for mode in MODES]
    + [{"pool_position": "after"}, {"scope": "time"}, {"group_size": 2}]
    + [{"normalization": None, "sub_sample": False}],
    ids=str,
)
def test_gradients_equal_finite_differences_of_the_equations(options, training):
    layer, x = random_block(**options), random_input()
    rng = np.random.default_rng(5)
    cotangent = rng.normal(size=x.shape)
    grads = layer_gradients(layer, x, cotangent, training=training)
    weights = weights_by_path(layer)

    def loss(x, weights):
        return float((expected_output(layer, x, weights, training) * cotangent).sum())

    for name, grad in grads.items():
        value = x.astype("float64") if name == "x" else weights[name]
        direction = rng.normal(size=value.shape)
        losses = []
        for step in (1e-6, -1e-6):
            moved = value + step * direction
            inputs = (moved, weights) if name == "x" else (x, {**weights, name: moved})
            losses.append(loss(*inputs))
        slope = (losses[0] - losses[1]) / 2e-6
        actual = float((grad * direction).sum())
        scale = max(1.0, np.abs(grad).max())
        assert abs(actual - slope) <= max(1e-5, 50 * RTOL) * scale, name
