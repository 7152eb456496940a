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


@pytest.fixture(scope="module")
def models():
    return {
        name: C2D(
            14,
            4,
            (2, 32, 32, 3),
            width=4,
            non_local=0 if name == "torchvision" else {"res3": [0]},
            convention="paper" if name == "torchvision" else name,
        )
        for name in SPELLINGS
    }


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_damaged_dict_is_refused_or_loads(models, name):
    model, spell = models[name], SPELLINGS[name]
    state = draw_state(model, spell, image=name == "torchvision")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        damaged = damage(state, rng)
        for weight in model.weights:
            weight.assign(np.full(weight.shape, 0.5))
        try:
            report = load_weights(model, damaged)
        except CheckpointError as error:
            assert str(error).count("\n") < 60
            refused += 1
            assert all((numpy(weight) == 0.5).all() for weight in model.weights)
        else:
            for weight in model.weights:
                if weight.path in report.matched:
                    theirs = np.asarray(damaged[spell(weight.path)], "float64")
                    ours = numpy(weight).astype("float64")
                    np.testing.assert_allclose(ours.sum(), theirs.sum(), atol=1e-3)
    assert 50 < refused < 100
