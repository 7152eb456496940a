"""The sources' own formulas: converted networks agree, and every departure shows."""

import keras
import numpy as np
import pytest

from keras_nonlocal.convert import CheckpointError, load_weights
from keras_nonlocal.convert.conversion import build
from keras_nonlocal.convert.verify import Verification, _difference, verify
from keras_nonlocal.models import C2D
from tests.convert import files_of_weights

BLOCKS = files_of_weights.BLOCKS
STEM = {"gluoncv": "32x2", "mmaction2": "32x2"}
CLIPS = {"8x8": files_of_weights.CLIP, "32x2": (32, 64, 64, 3)}
# Name of a state: source, and arguments of the network.
CASES = {
    "video_nonlocal_net": {},
    "video_nonlocal_net_affine": {
        "non_local_options": {"normalization": None, "res3": {"group_size": 4}}
    },
    "pyslowfast": {},
    "mmaction2": {},
    "mmaction2_gaussian": {"non_local_options": {"mode": "gaussian"}},
    "mmaction2_concatenation": {
        "non_local_options": {"mode": "concatenation", "sub_sample": False}
    },
    "mmaction2_c2d": {"model": "c2d", "non_local": None, "stem": "8x8"},
    "gluoncv": {},
    "torchvision": {
        "model": "c2d",
        "non_local": None,
        "convention": "video_nonlocal_net",
    },
}


@pytest.fixture(scope="module")
def states():
    return files_of_weights.states()


def source_of(name):
    return next(x for x in (*STEM, *CASES) if name.startswith(x))


def arguments_of(name, **changes):
    source = source_of(name)
    options = {
        "model": "i3d",
        "depth": 14,
        "width": 4,
        "num_classes": 7,
        "non_local": BLOCKS,
        "non_local_options": {},
        "convention": source,
        "stem": STEM.get(source, "8x8"),
    }
    options |= CASES[name] | changes
    options.setdefault("input_shape", CLIPS[options["stem"]])
    if options["model"] == "i3d":
        options.setdefault("temporal_kernel", "3x1x1")
    return options


def loaded(name, states, **changes):
    arguments = arguments_of(name, **changes)
    model = build(arguments)
    load_weights(model, states[name], source_of(name), strict=False)
    return model, arguments


@pytest.mark.parametrize("name", CASES)
def test_converted_networks_agree(name, states):
    model, arguments = loaded(name, states)
    result = verify(model, states[name], source_of(name), arguments)
    assert list(result.differences) == ["res2", "res3", "res4", "res5", "pred"]
    assert max(result.differences.values()) < 2e-5
    assert result.ok


@pytest.mark.parametrize("kernel", ["3x1x1", "3x3x3"])
@pytest.mark.parametrize("stem", ["8x8", "32x2"])
def test_inflated_images_agree(kernel, stem, states):
    changes = {"model": "i3d", "temporal_kernel": kernel, "stem": stem}
    model, arguments = loaded("torchvision", states, **changes)
    assert verify(model, states["torchvision"], "torchvision", arguments).ok


@pytest.mark.parametrize("convention", ["pyslowfast", "mmaction2", "gluoncv", "paper"])
def test_images_agree_under_every_convention(convention, states):
    changes = {"convention": convention, "stem": "32x2"}
    model, arguments = loaded("torchvision", states, **changes)
    assert verify(model, states["torchvision"], "torchvision", arguments).ok


# The network that runs has another detail than its source: it must be noticed.
@pytest.mark.parametrize(
    "name, changes",
    [
        ("pyslowfast", {"convention": "video_nonlocal_net"}),
        ("pyslowfast", {"stem": "32x2", "input_shape": CLIPS["8x8"]}),
        ("pyslowfast", {"non_local_options": {"mode": "dot_product"}}),
        ("pyslowfast", {"non_local_options": {"use_scale": False}}),
        ("pyslowfast", {"non_local_options": {"pool_position": "after"}}),
        ("pyslowfast", {"non_local_options": {"sub_sample": False}}),
        ("pyslowfast", {"non_local_options": {"scope": "space"}}),
        ("pyslowfast", {"non_local": None}),
        ("gluoncv", {"non_local_options": {"sub_sample": True}}),
        ("mmaction2", {"non_local_options": {"pool_position": "before"}}),
        ("video_nonlocal_net", {"convention": "pyslowfast"}),
        ("mmaction2_c2d", {"convention": "gluoncv"}),
    ],
)
def test_other_details_are_noticed(name, changes, states):
    model, _ = loaded(name, states, **changes)
    clip = {"input_shape": model.input_shape[1:]}
    result = verify(model, states[name], source_of(name), arguments_of(name, **clip))
    assert not result.ok
    assert max(result.differences.values()) > 1e-3


def test_long_clips_attend_within_groups(states):
    name = "video_nonlocal_net_affine"
    clip = {"input_shape": (16, 64, 64, 3)}
    model, arguments = loaded(name, states, **clip)
    assert verify(model, states[name], "video_nonlocal_net", arguments).ok
    ungrouped = {"non_local_options": {"normalization": None}}
    model, arguments = loaded(name, states, **clip, **ungrouped)
    assert not verify(model, states[name], "video_nonlocal_net", arguments).ok


@pytest.mark.parametrize("path", ["conv1/kernel", "res5_0_branch2c_bn/moving_variance"])
def test_a_changed_weight_is_noticed(path, states):
    model, arguments = loaded("pyslowfast", states)
    [weight] = [weight for weight in model.weights if weight.path == path]
    weight.assign(weight + 0.1)
    result = verify(model, states["pyslowfast"], "pyslowfast", arguments)
    assert not result.ok
    first = "res2" if path.startswith("conv1") else "res5"
    assert result.differences[first] > 1e-4
    assert first == "res2" or result.differences["res4"] < 1e-4


def test_a_saturated_softmax_is_named(states):
    arguments = arguments_of("pyslowfast")
    model = build(arguments)
    state = dict(states["pyslowfast"])
    for name in state:
        if name.endswith(("conv_theta.weight", "conv_phi.weight")):
            state[name] = state[name] * 1000
    load_weights(model, state)
    result = verify(model, state, "pyslowfast", arguments)
    assert result.is_saturated and result.largest_exponent > 1000
    failed = Verification({"pred": 1.0}, result.largest_exponent)
    assert "saturated" in str(failed)
    assert "saturated" not in str(Verification({"pred": 1.0}, 10.0))
    assert "saturated" not in str(Verification({"pred": 0.0}, 1e6))


def test_a_new_classifier_is_left_out(states):
    arguments = arguments_of("pyslowfast", num_classes=3)
    model = build(arguments)
    load_weights(model, states["pyslowfast"], skip_head=True)
    state = states["pyslowfast"]
    result = verify(model, state, "pyslowfast", arguments, skip_head=True)
    assert list(result.differences)[-1] == "res5" and result.ok


def test_weights_of_keras_models_agree(states):
    model, arguments = loaded("pyslowfast", states)
    state = {x.path: keras.ops.convert_to_numpy(x) for x in model.weights}
    assert verify(model, state, "keras_nonlocal", arguments).ok
    state["res4_0_nonlocal/g/kernel"] = state["res4_0_nonlocal/g/kernel"] * 1.1
    assert not verify(model, state, "keras_nonlocal", arguments).ok


def test_nan_is_not_ok():
    assert not Verification({"res5": 0.0, "pred": float("nan")}).ok
    assert "nan in pred, at most 1e-04" in str(Verification({"pred": float("nan")}))


@pytest.mark.parametrize("factor, ok", [(1.03, False), (1.0, True), (np.inf, False)])
def test_large_numbers_are_compared_as_others_are(factor, ok):
    expected = np.full(400, 2e19, "float32")  # their squares overflow
    difference = _difference(expected * np.float32(factor), expected)
    assert Verification({"pred": difference}).ok is ok
    infinite = np.full(400, np.inf, "float32")
    assert np.isnan(_difference(expected, infinite))


def test_maps_of_other_sizes_differ_infinitely(states):
    model, arguments = loaded("gluoncv", states)
    other = arguments | {"stem": "8x8"}
    result = verify(model, states["gluoncv"], "gluoncv", other)
    assert np.isinf(result.differences["res2"])


def test_sources_without_formulas_say_so(states):
    model = C2D(14, 3, files_of_weights.CLIP, width=4)
    with pytest.raises(CheckpointError, match="no reference for weights of 'alexhex7'"):
        verify(model, {}, "alexhex7", {})
