"""Which network weights are of, and what is made of it."""

import numpy as np
import pytest

from keras_nonlocal.convert import CheckpointError
from keras_nonlocal.convert.architecture import EMBEDDED, Architecture
from keras_nonlocal.convert.completion import check_request, complete
from keras_nonlocal.convert.inference import check_is_network
from keras_nonlocal.convert.reading import read_content
from keras_nonlocal.models import C2D
from tests.convert import spelling
from tests.convert.files_of_weights import BLOCKS, build, states
from tests.convert.networks import draw_state

COMMON = {"depth": 14, "width": 4, "num_classes": 7}
I3D_KERNEL = {"model": "i3d", "temporal_kernel": "3x1x1"}
PLACES = ("res3_0", "res4_0")


@pytest.fixture(scope="module")
def files():
    return states()


def architecture_of(state):
    return read_content(state).architecture


def options(**changes):
    return {"normalization": "batch", "use_bias": True, "use_output_bias": True} | (
        changes
    )


@pytest.mark.parametrize(
    "name, convention, stem, expected",
    [
        (
            "video_nonlocal_net",
            "video_nonlocal_net",
            None,
            options(modes=EMBEDDED, sub_sample=True, pool_position="before"),
        ),
        (
            "video_nonlocal_net_affine",
            "video_nonlocal_net",
            None,
            options(normalization=None, modes=EMBEDDED),
        ),
        ("pyslowfast", "pyslowfast", "8x8", options(use_scale=True)),
        (
            "mmaction2",
            "mmaction2",
            "32x2",
            options(use_output_bias=False, sub_sample=True, pool_position="after"),
        ),
        (
            "mmaction2_gaussian",
            "mmaction2",
            "32x2",
            options(use_output_bias=False, sub_sample=True, modes=("gaussian",)),
        ),
        (
            "mmaction2_concatenation",
            "mmaction2",
            "32x2",
            options(use_output_bias=False, sub_sample=False, modes=("concatenation",)),
        ),
        ("gluoncv", "gluoncv", "32x2", options(sub_sample=False)),
    ],
)
def test_video_networks_determine_all_but_some_stems(
    files, name, convention, stem, expected
):
    found = architecture_of(files[name])
    assert found.conventions == (convention,) and found.stem == stem
    for argument, value in (COMMON | I3D_KERNEL | {"non_local": BLOCKS}).items():
        assert getattr(found, argument) == value
    for place in PLACES:
        assert expected.items() <= found.blocks[place].items()


def test_affine_networks_attend_within_groups_in_res3(files):
    blocks = architecture_of(files["video_nonlocal_net_affine"]).blocks
    assert [blocks[place]["group_size"] for place in PLACES] == [4, None]


def test_image_networks_leave_the_model_open(files):
    found = architecture_of(files["torchvision"])
    assert found == Architecture(**COMMON, stride_in_1x1=False)


def test_c2d_of_image_kernels_is_a_c2d(files):
    found = architecture_of(files["mmaction2_c2d"])
    assert found == Architecture(
        "c2d", **COMMON, stem="8x8", stride_in_1x1=False, conventions=("mmaction2",)
    )


@pytest.mark.parametrize("depth", [26, 50, 101])
def test_depth_and_places(depth):
    model = build(C2D, depth=depth, non_local=1 if depth > 26 else {"res4": [1]})
    found = architecture_of(draw_state(model, spelling.pyslowfast))
    places = {26: [1], 50: [4], 101: [21]}
    assert found.depth == depth and found.non_local == {"res4": places[depth]}


def test_kernels_of_3x3x3():
    model = build(temporal_kernel="3x3x3")
    found = architecture_of(draw_state(model, spelling.pyslowfast))
    assert found.temporal_kernel == "3x3x3"


def test_other_widths_of_blocks():
    model = build(non_local_options={"intermediate_channels": 4})
    found = architecture_of(draw_state(model, spelling.pyslowfast))
    assert [found.blocks[x]["intermediate_channels"] for x in PLACES] == [4, 4]
    built, _ = complete(found, {})
    assert built.arguments()["non_local_options"] == {"intermediate_channels": 4}


def test_mode_from_the_config_beside_the_weights(files):
    content = {
        "model_state": files["pyslowfast"],
        "cfg": "NONLOCAL:\n  INSTANTIATION: dot_product\n",
    }
    blocks = architecture_of(content).blocks
    assert {options["modes"] for options in blocks.values()} == {("dot_product",)}


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
    weights = read_content(change(files["pyslowfast"], name, array))
    with pytest.raises(CheckpointError, match=message):
        check_is_network(weights.sizes)


def test_without_a_classifier_the_number_of_classes_is_needed(files):
    state = {x: y for x, y in files["pyslowfast"].items() if "head" not in x}
    found = architecture_of(state)
    assert found.num_classes is None
    with pytest.raises(CheckpointError, match="no classifier. Pass num_classes=N."):
        complete(found, {})
    assert complete(found, {"num_classes": 3})[0].num_classes == 3


# === What is requested ===

BLOCK = options(modes=EMBEDDED, sub_sample=True, pool_position="before", use_scale=True)
WEIGHTS = Architecture(
    **COMMON,
    **I3D_KERNEL,
    stem="8x8",
    stride_in_1x1=False,
    conventions=("pyslowfast",),
    blocks=dict.fromkeys(PLACES, BLOCK),
)


def completed(weights, skip_classifier=False, **arguments):
    architecture, notes = complete(weights, arguments, skip_classifier)
    return architecture.arguments(), [str(note) for note in notes]


def test_what_the_weights_determine_is_built():
    arguments, notes = completed(WEIGHTS)
    assert arguments == COMMON | I3D_KERNEL | {
        "non_local": BLOCKS,
        "convention": "pyslowfast",
        "non_local_options": {},
        "stem": "8x8",
        "stride_in_1x1": False,
    }
    assert notes == [
        "mode='embedded_gaussian' is assumed: the weights do not determine it"
    ]


def test_what_confirms_the_weights_changes_nothing():
    wanted = {x: getattr(WEIGHTS, x) for x in ("model", "depth", "num_classes")}
    wanted |= {"non_local": {"res3": (0,), "res4": [0]}, "stem": "8x8", "width": 4}
    wanted |= {"convention": "pyslowfast", "stride_in_1x1": False}
    assert completed(WEIGHTS, **wanted) == completed(WEIGHTS)


@pytest.mark.parametrize(
    "wanted, message",
    [
        ({"model": "c2d"}, "model='c2d', but the weights need model='i3d'"),
        ({"depth": 50}, "depth=50, but the weights need depth=14"),
        ({"width": 64}, "width=64, but the weights need width=4"),
        ({"num_classes": 3}, "num_classes=3, .* num_classes=7. skip_classifier=True l"),
        ({"convention": "mmaction2"}, "'mmaction2', .* convention='pyslowfast'"),
        ({"stem": "32x2"}, "stem='32x2', but the weights need stem='8x8'"),
        ({"stride_in_1x1": True}, "stride_in_1x1=True, .* stride_in_1x1=False"),
        ({"temporal_kernel": "3x3x3"}, "'3x3x3', .* temporal_kernel='3x1x1'"),
        ({"mode": "gaussian"}, "'gaussian', .*'embedded_gaussian or dot_product'"),
        ({"non_local": {"res4": [0]}}, r"\{'res4': \[0\]\}, .*=\{'res3': \[0\], 'res4"),
    ],
)
def test_contradictions_name_both(wanted, message):
    with pytest.raises(CheckpointError, match=f"request contradicts .*{message}"):
        completed(WEIGHTS, **wanted)


@pytest.mark.parametrize(
    "wanted, message",
    [
        ({"model": "x3d"}, "`model` of convert_file.*'c2d', 'i3d'"),
        ({"stem": "9x9"}, "`stem` of convert_file.*'8x8', '32x2'"),
        ({"convention": "foo"}, "`convention` of convert_file.*'gluoncv'"),
        ({"convention": "pyslowfsat"}, "Did you mean 'pyslowfast'"),
        ({"mode": "dot_prodct"}, "`mode` of convert_file.*Did you mean 'dot_product'"),
        ({"depth": 33}, "`depth` of convert_file"),
        ({"temporal_kernel": "5x5x5"}, "`temporal_kernel` of convert_file"),
        ({"stride_in_1x1": "yes"}, "`stride_in_1x1` of convert_file"),
        ({"width": 0}, "`width` of convert_file. Expected a positive"),
        ({"num_classes": "7"}, "`num_classes` of convert_file. Expected a positive"),
    ],
)
def test_arguments_outside_their_choices_are_value_errors(wanted, message):
    with pytest.raises(ValueError, match=message) as error:
        check_request(wanted)
    assert not isinstance(error.value, CheckpointError)


def test_the_mode_that_no_weight_determines_is_taken():
    arguments, notes = completed(WEIGHTS, mode="dot_product")
    assert arguments["non_local_options"] == {"mode": "dot_product"} and not notes


def test_a_new_classifier_has_any_number_of_classes():
    arguments, _ = completed(WEIGHTS, skip_classifier=True, num_classes=3)
    assert arguments["num_classes"] == 3


def test_options_that_differ_between_stages_are_given_by_stage():
    blocks = {"res3_0": BLOCK | {"group_size": 4}, "res4_0": BLOCK}
    weights = Architecture(**COMMON, **I3D_KERNEL, conventions=("pyslowfast",))
    weights = weights.merged(Architecture(blocks=blocks))
    options = completed(weights)[0]["non_local_options"]
    assert options == {"res3": {"group_size": 4}}


def test_blocks_that_differ_within_a_stage_are_refused():
    blocks = {"res4_0": BLOCK, "res4_1": BLOCK | {"use_scale": False}}
    weights = Architecture(
        "c2d", 26, 4, 7, stem="8x8", conventions=("pyslowfast",), blocks=blocks
    )
    with pytest.raises(CheckpointError, match="blocks differ within a stage"):
        completed(weights)


IMAGE = Architecture(**COMMON, stride_in_1x1=False)


def test_images_need_a_model():
    with pytest.raises(
        CheckpointError, match="c2d and i3d. Pass model='c2d' or 'i3d'."
    ):
        completed(IMAGE)
    arguments, _ = completed(IMAGE, model="i3d", num_classes=3)
    assert (arguments["temporal_kernel"], arguments["num_classes"]) == ("3x1x1", 3)


def test_new_blocks_are_noted():
    arguments, notes = completed(IMAGE, model="c2d", non_local=BLOCKS, mode="gaussian")
    assert arguments["non_local"] == BLOCKS
    assert arguments["non_local_options"] == {"mode": "gaussian"}
    assert "are new: they change nothing until they are trained" in notes[-1]


@pytest.mark.parametrize(
    "wanted, message",
    [
        ({"temporal_kernel": "3x1x1"}, "C2D has no temporal kernels"),
        ({"mode": "gaussian"}, "mode='gaussian' needs .*blocks.*Pass non_local=N."),
    ],
)
def test_options_of_what_is_not_there(wanted, message):
    with pytest.raises(CheckpointError, match=message):
        completed(IMAGE, model="c2d", **wanted)


def test_stems_follow_the_project():
    for convention, stem in (("gluoncv", "32x2"), ("video_nonlocal_net", "8x8")):
        weights = Architecture(**COMMON, **I3D_KERNEL, conventions=(convention,))
        arguments, notes = completed(weights)
        assert arguments["stem"] == stem
        assert any("stem" in note for note in notes)
