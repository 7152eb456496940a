"""Equality with AlexHex7/Non-local_pytorch, with the same weights.

`alexhex7.npz` holds the results of that project; `make_alexhex7_values.py` beside
it says how it was made.
"""

import itertools
import pathlib

import numpy as np
import pytest

from tests.backends import layer_gradients, to_numpy
from tests.layers.blocks import LAYERS

MODES = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")
NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


@pytest.fixture(scope="module")
def arrays():
    with np.load(pathlib.Path(__file__).with_name("alexhex7.npz")) as file:
        return dict(file)


def our_path(name, bn_layer):
    """`phi.0.weight` to `phi/kernel`; None for what we have no weight for."""
    module, *index, kind = name.split(".")
    kinds = {"weight": "kernel", "bias": "bias"}
    if module == "concat_project":
        return "concat_projection/kernel"
    if module == "W":
        if bn_layer and index == ["1"]:
            return f"norm/{NORM[kind]}" if kind in NORM else None
        return f"w_z/{kinds[kind]}"
    return f"{module}/{kinds[kind]}"


def to_ours(name, array):
    """(out, in, 1, 1, 1) kernels to (in, out); vectors as they are."""
    if array.ndim == 1:
        return array
    return array.reshape(array.shape[:2]).T


def build(case, mode, rank, sub_sample, bn_layer):
    layer = LAYERS[rank](
        mode=mode,
        sub_sample=sub_sample,
        pool_position="after",
        use_scale=False,
        normalization="batch" if bn_layer else None,
    )
    x = np.moveaxis(case["x"], 1, -1)
    layer.build(x.shape)
    ours = {w.path.split("/", 1)[1]: w for w in layer.weights}
    moved = set()
    for name, array in case.items():
        if name.startswith("weight/"):
            path = our_path(name.removeprefix("weight/"), bn_layer)
            if path:
                ours[path].assign(to_ours(name, array))
                moved.add(path)
    assert moved == set(ours)
    return layer, x


@pytest.mark.parametrize("bn_layer", [True, False])
@pytest.mark.parametrize("sub_sample", [True, False])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_outputs_and_gradients_are_equal(arrays, mode, rank, sub_sample, bn_layer):
    prefix = f"{mode}/{rank}/{sub_sample}/{bn_layer}/"
    case = {k.removeprefix(prefix): v for k, v in arrays.items() if prefix in k}
    layer, x = build(case, mode, rank, sub_sample, bn_layer)
    close(to_numpy(layer(x)), np.moveaxis(case["y"], 1, -1))

    cotangent = np.moveaxis(case["cotangent"], 1, -1)
    grads = layer_gradients(layer, x, cotangent)
    close(grads.pop("x"), np.moveaxis(case["gradient/x"], 1, -1))
    theirs = {
        our_path(k.removeprefix("gradient/"), bn_layer): to_ours(k, v)
        for k, v in case.items()
        if k.startswith("gradient/") and k != "gradient/x"
    }
    assert set(grads) == set(theirs)
    # phi's bias shifts a query's logits alike: its softmax gradient is all rounding.
    floor = max(np.abs(g).max() for g in theirs.values()) / 10
    for path, grad in grads.items():
        close(grad, theirs[path], floor)


def close(actual, expected, floor=0.0):
    scale = max(np.abs(expected).max(), floor)
    assert np.abs(actual - expected).max() < 1e-5 * scale


def test_every_case_is_in_the_file(arrays):
    cases = {"/".join(name.split("/")[:4]) for name in arrays}
    options = itertools.product(MODES, "123", ("True", "False"), ("True", "False"))
    assert cases == {"/".join(o) for o in options}
