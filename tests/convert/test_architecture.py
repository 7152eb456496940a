"""What a file tells of its network, and what is made of it."""

import numpy as np
import pytest

from keras_nonlocal.convert import CheckpointError
from keras_nonlocal.convert.architecture import infer
from keras_nonlocal.convert.choice import choose
from keras_nonlocal.convert.sources import identify
from keras_nonlocal.models import C2D
from tests.convert import spelling
from tests.convert.files_of_weights import BLOCKS, build, states
from tests.convert.networks import draw_state

COMMON = {"depth": 14, "width": 4, "num_classes": 7, "non_local": BLOCKS}
I3D_KERNEL = {"model": "i3d", "temporal_kernel": "3x1x1"}


@pytest.fixture(scope="module")
def files():
    return states()


def facts_of(state, name="auto", content=None):
    source, state = identify(content or state, name)
    return infer(source, source.prepare(state), source.demands(state, content or state))


def options(**changes):
    return {"normalization": "batch", "use_bias": True, "use_output_bias": True} | (
        changes
    )


@pytest.mark.parametrize(
    "name, expected",
    [
        (
            "video_nonlocal_net",
            {"convention": "video_nonlocal_net", "non_local_options": options()},
        ),
        (
            "video_nonlocal_net_affine",
            {
                "convention": "video_nonlocal_net",
                "non_local_options": options(
                    normalization=None, res3={"group_size": 4}
                ),
            },
        ),
        ("pyslowfast", {"convention": "pyslowfast", "non_local_options": options()}),
        (
            "mmaction2",
            {
                "convention": "mmaction2",
                "non_local_options": options(use_output_bias=False, sub_sample=True),
            },
        ),
        (
            "mmaction2_gaussian",
            {
                "convention": "mmaction2",
                "non_local_options": options(
                    use_output_bias=False, sub_sample=True, mode="gaussian"
                ),
            },
        ),
        (
            "mmaction2_concatenation",
            {
                "convention": "mmaction2",
                "non_local_options": options(
                    use_output_bias=False, sub_sample=False, mode="concatenation"
                ),
            },
        ),
        ("gluoncv", {"convention": "gluoncv", "non_local_options": options()}),
    ],
)
def test_video_networks_tell_all_but_the_stem(files, name, expected):
    found = facts_of(files[name])
    assert expected["non_local_options"].items() <= found["non_local_options"].items()
    assert found["convention"] == expected["convention"]
    assert {x: found[x] for x in COMMON | I3D_KERNEL} == COMMON | I3D_KERNEL
    assert "stem" not in found


def test_image_networks_leave_the_model_open(files):
    assert facts_of(files["torchvision"]) == COMMON | {"non_local": {}}


def test_c2d_of_image_kernels_is_a_c2d(files):
    found = facts_of(files["mmaction2_c2d"])
    assert found == COMMON | {
        "non_local": {},
        "model": "c2d",
        "convention": "mmaction2",
    }


@pytest.mark.parametrize("depth", [26, 50, 101])
def test_depth_and_places(depth):
    model = build(C2D, depth=depth, non_local=1 if depth > 26 else {"res4": [1]})
    found = facts_of(draw_state(model, spelling.pyslowfast))
    places = {26: [1], 50: [4], 101: [21]}
    assert found["depth"] == depth and found["non_local"] == {"res4": places[depth]}


def test_kernels_of_3x3x3():
    model = build(temporal_kernel="3x3x3")
    found = facts_of(draw_state(model, spelling.pyslowfast))
    assert found["temporal_kernel"] == "3x3x3"


def test_other_widths_of_blocks():
    model = build(non_local_options={"intermediate_channels": 4})
    found = facts_of(draw_state(model, spelling.pyslowfast))["non_local_options"]
    assert found["res3"] == {"intermediate_channels": 4}
    assert found["res4"] == {"intermediate_channels": 4}


def test_mode_from_the_config_beside_the_weights(files):
    content = {
        "model_state": files["pyslowfast"],
        "cfg": "NONLOCAL:\n  INSTANTIATION: dot_product\n",
    }
    found = facts_of(files["pyslowfast"], content=content)
    assert found["non_local_options"]["mode"] == "dot_product"


def change(state, name, array):
    return {x: y for x, y in state.items() if x != name} | (
        {} if array is None else {name: array}
    )


@pytest.mark.parametrize(
    "name, array, message",
    [
        ("s1.pathway0_stem.bn.weight", None, "no network from its first layer on"),
        ("s4.pathway0_res0.branch2.c.weight", np.ones((8, 4, 1, 1, 1)), "res4 does no"),
        ("s4.pathway0_res0.branch2.a.weight", None, r"\(1, 1, 0, 1\) residual blocks"),
        ("s1.pathway0_stem.conv.weight", np.ones((4, 3, 3, 7, 7)), "conv1 has 3 times"),
        # A width that would fill the memory.
        ("s1.pathway0_stem.bn.weight", np.ones(10**6), "res2 does not follow from con"),
    ],
)
def test_other_and_damaged_networks_are_refused(files, name, array, message):
    with pytest.raises(CheckpointError, match=message):
        facts_of(change(files["pyslowfast"], name, array))


def test_without_a_classifier_the_number_of_classes_is_asked_for(files):
    state = {x: y for x, y in files["pyslowfast"].items() if "head" not in x}
    found = facts_of(state)
    assert "num_classes" not in found
    with pytest.raises(CheckpointError, match="no classifier: choose num_classes"):
        choose(found, {})
    assert choose(found, {"num_classes": 3})[0]["num_classes"] == 3


# === What is asked for ===

FACTS = (
    COMMON
    | I3D_KERNEL
    | {
        "convention": "pyslowfast",
        "non_local_options": options(),
    }
)


def test_what_the_file_tells_is_chosen():
    chosen, notes = choose(FACTS, {})
    assert chosen == COMMON | I3D_KERNEL | {
        "convention": "pyslowfast",
        "non_local_options": {},
        "stem": "8x8",
    }
    assert notes == ("mode='embedded_gaussian' is assumed: the weights do not tell",)


def test_what_confirms_the_file_changes_nothing():
    asked = {x: FACTS[x] for x in ("model", "depth", "num_classes", "convention")}
    asked |= {"non_local": {"res3": (0,), "res4": [0]}, "stem": "8x8", "depth": None}
    assert choose(FACTS, asked)[0] == choose(FACTS, {})[0]


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"model": "c2d"}, "model='i3d', and model='c2d' was asked for"),
        ({"depth": 50}, "depth=14, and depth=50"),
        ({"num_classes": 3}, "num_classes=7, and num_classes=3.*skip_head"),
        ({"convention": "mmaction2"}, "'pyslowfast', and convention='mmaction2'"),
        ({"stem": "32x2"}, "stem='8x8', and stem='32x2'"),
        ({"temporal_kernel": "3x3x3"}, "'3x1x1', and temporal_kernel='3x3x3'"),
        ({"mode": "gaussian"}, "'embedded_gaussian or dot_product', and mode='gau"),
        ({"non_local": {"res4": [0]}}, r"\{'res3': \[0\], .*, and non_local=\{'res4'"),
    ],
)
def test_contradictions_name_both(asked, message):
    with pytest.raises(CheckpointError, match=message):
        choose(FACTS, asked)


def test_the_mode_that_no_weight_tells_is_taken():
    chosen, notes = choose(FACTS, {"mode": "dot_product"})
    assert chosen["non_local_options"] == {"mode": "dot_product"} and not notes


def test_a_new_classifier_has_any_number_of_classes():
    assert choose(FACTS, {"num_classes": 3}, skip_head=True)[0]["num_classes"] == 3


IMAGE = COMMON | {"non_local": {}}


def test_images_need_a_model():
    with pytest.raises(CheckpointError, match="choose the model, 'c2d' or 'i3d'"):
        choose(IMAGE, {})
    chosen, _ = choose(IMAGE, {"model": "i3d", "num_classes": 3})
    assert (chosen["temporal_kernel"], chosen["num_classes"]) == ("3x1x1", 3)


def test_new_blocks_are_noted():
    asked = {"model": "c2d", "non_local": BLOCKS, "mode": "gaussian"}
    chosen, notes = choose(IMAGE, asked)
    assert chosen["non_local"] == BLOCKS
    assert chosen["non_local_options"] == {"mode": "gaussian"}
    assert "are new: they change nothing until they are trained" in notes[-1]


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"temporal_kernel": "3x1x1"}, "C2D has no temporal kernels"),
        ({"mode": "gaussian"}, "mode='gaussian' was asked for, of no non-local block"),
    ],
)
def test_options_of_what_is_not_there(asked, message):
    with pytest.raises(CheckpointError, match=message):
        choose(IMAGE, {"model": "c2d"} | asked)


def test_stems_follow_the_project():
    for convention, stem in (("gluoncv", "32x2"), ("video_nonlocal_net", "8x8")):
        chosen, notes = choose(FACTS | {"convention": convention}, {})
        assert chosen["stem"] == stem
        assert any("stem" in note for note in notes) is (stem == "8x8")
