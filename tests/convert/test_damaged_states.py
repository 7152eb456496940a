"""Dicts that no project saves: a clear error or a correct load, never a crash."""

import numpy as np
import pytest

from keras_nonlocal.convert import CheckpointError, load_weights
from keras_nonlocal.models import C2D
from tests.convert import spelling
from tests.convert.networks import draw_state, numpy

SPELLINGS = {
    "video_nonlocal_net": spelling.video_nonlocal_net,
    "pyslowfast": spelling.pyslowfast,
    "mmaction2": spelling.mmaction2,
    "gluoncv": spelling.gluoncv,
    "torchvision": spelling.torchvision,
}
JUNK = (
    np.array("text"),
    np.array([None]),
    np.zeros((2, 0, 3)),
    np.zeros((1, 1, 1, 1, 1, 1)),
    np.zeros(4, complex),
    np.zeros(3, [("a", "f4")]),
    np.array(["2020-01-01"], "M8[D]"),
    np.full(4, np.nan),
    np.True_,
    None,
    "text",
    [1, 2],
    {"weight": 1},
    7,
)


def damage(state, rng):
    """One entry dropped, renamed, cut, turned, or replaced by junk."""
    names = list(state)
    name = names[rng.integers(len(names))]
    array = state[name]
    choices = [
        {},
        {name + "x": array},
        {name.replace("1", "9"): array},
        {name.replace("0", "9" * 5000): array},
        {name: array[:1]},
        {name: array[..., None]},
        {name: array.T},
        {name: np.float16(array)},
        {name: array.astype(">f8")},
        {7: array},
        *({name: junk} for junk in JUNK),
    ]
    kept = {other: x for other, x in state.items() if other != name}
    return kept | choices[rng.integers(len(choices))]


def build(convention, **options):
    return C2D(14, 4, (2, 32, 32, 3), width=4, convention=convention, **options)


def check_damaged(model, state, spell):
    """50 times: refused, the model as it was; or loaded, each weight the file's."""
    rng = np.random.default_rng(0)
    refused = 0
    fill(model)
    for _ in range(50):
        damaged = damage(state, rng)
        try:
            report = load_weights(model, damaged)
        except CheckpointError as error:
            assert str(error).count("\n") < 60
            refused += 1
            assert all((numpy(weight) == 0.5).all() for weight in model.weights)
        else:
            for weight in model.weights:
                if weight.path in report.matched and weight.name != "moving_mean":
                    theirs = np.asarray(damaged[spell(weight.path)], "float64")
                    ours = numpy(weight).astype("float64")
                    np.testing.assert_allclose(ours.sum(), theirs.sum(), atol=1e-3)
            fill(model)
    assert 25 < refused < 50


def fill(model):
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 0.5))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=[pytest.mark.slow] * (x != "pyslowfast"))
        for x in SPELLINGS
    ],
)
def test_a_damaged_dict_is_refused_or_loads(name):
    image = name == "torchvision"
    places = 0 if image else {"res3": [0]}
    model = build("paper" if image else name, non_local=places)
    spell = SPELLINGS[name]
    check_damaged(model, draw_state(model, spell, image=image), spell)


def keras_applications(path):
    """`res3_0_branch2a_bn/gamma` to `conv3_block1_1_bn/gamma`."""
    layer, kind = path.split("/")
    name, *bn = layer.removeprefix("res").split("_bn")
    end = "bn" if bn else "conv"
    if name == "conv1":
        return f"conv1_{end}/{kind}"
    if name == "pred":
        return f"predictions/{kind}"
    stage, block, branch = name.split("_")
    number = {"1": 0, "2a": 1, "2b": 2, "2c": 3}[branch.removeprefix("branch")]
    return f"conv{stage}_block{int(block) + 1}_{number}_{end}/{kind}"


def test_damaged_weights_of_keras_applications_are_refused_or_load():
    model = build("paper", stride_in_1x1=True)
    rng = np.random.default_rng(0)
    state = {}
    for weight in model.weights:
        array = rng.uniform(0.5, 1.5, weight.shape).astype("float32")
        name = keras_applications(weight.path)
        if array.ndim == 5:
            array = array[0]
            state[name.replace("/kernel", "/bias")] = array[0, 0, 0]
        state[name] = array
    check_damaged(model, state, keras_applications)


def test_damaged_weights_of_our_own_are_refused_or_load():
    model = build("paper", non_local={"res3": [0]})
    rng = np.random.default_rng(0)
    state = {w.path: rng.uniform(0.5, 1.5, w.shape) for w in model.weights}
    check_damaged(model, state, str)
