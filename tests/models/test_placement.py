import pytest

from keras_nonlocal.models.placement import place
from keras_nonlocal.models.resnet import DEPTHS

STAGES = ("res2", "res3", "res4", "res5")


def place_in(depth, non_local):
    placed = place(non_local, dict(zip(STAGES, DEPTHS[depth], strict=True)))
    assert tuple(placed) == STAGES
    return {stage: indices for stage, indices in placed.items() if indices}


@pytest.mark.parametrize(
    "depth, number, expected",
    [
        (50, 1, {"res4": (4,)}),
        (101, 1, {"res4": (21,)}),
        (152, 1, {"res4": (34,)}),
        (26, 1, {"res4": (0,)}),
        (50, 5, {"res3": (1, 3), "res4": (1, 3, 5)}),
        (101, 5, {"res3": (1, 3), "res4": (6, 13, 20)}),
        (152, 5, {"res3": (3, 7), "res4": (11, 23, 35)}),
        (50, 10, {"res3": (0, 1, 2, 3), "res4": (0, 1, 2, 3, 4, 5)}),
        (101, 10, {"res3": (0, 1, 2, 3), "res4": (2, 6, 10, 14, 18, 22)}),
        (152, 10, {"res3": (1, 3, 5, 7), "res4": (0, 7, 14, 21, 28, 35)}),
    ],
)
def test_number_places_blocks_by_rule(depth, number, expected):
    assert place_in(depth, number) == expected


@pytest.mark.parametrize("none", [None, 0])
def test_none_places_no_blocks(none):
    assert place_in(50, none) == {}


def test_dict_places_blocks_as_given():
    asked = {"res5": [2, 0], "res2": (1,), "res3": []}
    assert place_in(50, asked) == {"res2": (1,), "res5": (0, 2)}


@pytest.mark.parametrize(
    "non_local, message",
    [
        (2, r"Expected None, 1, 5, 10 or a dict"),
        (-1, r"Expected None, 1, 5, 10 or a dict"),
        (True, r"Received: non_local=True"),
        (False, r"Received: non_local=False"),
        ("5", r"Received: non_local='5'"),
        ([1, 3], r"Received: non_local=\[1, 3\]"),
        ({}, r"this inserts none"),
        ({"res3": []}, r"this inserts none"),
        ({"res3": None}, r"this inserts none"),
        ({"res6": [0]}, r"Expected stages .*not 'res6'"),
        ({3: [0]}, r"not 3"),
        ({"res3": [4]}, r"indices 0 to 3 in 'res3', which has 4 .* not 4"),
        ({"res4": [-1]}, r"indices 0 to 5 in 'res4'.* not -1"),
        ({"res3": [1, 1]}, r"each block of 'res3' once"),
        ({"res3": [1.0]}, r"whole block indices in 'res3'"),
        ({"res3": [True]}, r"whole block indices in 'res3'"),
        ({"res3": ["1"]}, r"whole block indices in 'res3'"),
        ({"res3": 1}, r"a list of block indices for 'res3'"),
        ({"res3": "13"}, r"a list of block indices for 'res3'"),
    ],
)
def test_impossible_ask_is_an_error(non_local, message):
    with pytest.raises(ValueError, match=message):
        place_in(50, non_local)


@pytest.mark.parametrize(
    "depth, number, message",
    [
        (14, 1, r"places 1 in res4, which res4 with its 1 residual blocks"),
        (14, 5, r"places 2 in res3 and 3 in res4, which res3 with its 1"),
        (26, 5, r"which res4 with its 2 residual blocks is too short"),
        (26, 10, r"which res3 with its 2 residual blocks is too short"),
    ],
)
def test_network_too_shallow_for_number_is_an_error(depth, number, message):
    with pytest.raises(ValueError, match=message):
        place_in(depth, number)
