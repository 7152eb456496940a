"""The same logits as facebookresearch/SlowFast, with the same weights.

`pyslowfast.npz` holds the results of that project; `make_pyslowfast_values.py` beside
it says how it was made.
"""

import pytest

from keras_nonlocal.convert import CheckpointError, load_weights
from keras_nonlocal.models import C2D, I3D
from tests.parity import comparing, seeded

SIZE = "8x224x224"
DOT_PRODUCT = {"mode": "dot_product"}
NETWORKS = {
    "C2D_8x8_R50": (C2D, {}),
    "C2D_NLN_8x8_R50": (C2D, {"non_local": 5}),
    "I3D_8x8_R50": (I3D, {}),
    "I3D_NLN_8x8_R50": (I3D, {"non_local": 5}),
    "I3D_NLN_8x8_R50_dot_product": (
        I3D,
        {"non_local": 5, "non_local_options": DOT_PRODUCT},
    ),
}

# The others have all of their layers and modes.
SLOW = ("C2D_8x8_R50", "I3D_8x8_R50", "C2D_NLN_8x8_R50", "I3D_NLN_8x8_R50")


def build(name, **changes):
    builder, options = NETWORKS[name]
    options = {"convention": "pyslowfast"} | options | changes
    return builder(input_shape=comparing.frames(SIZE), **options)


@pytest.mark.parametrize("name", comparing.with_slow(NETWORKS, SLOW))
def test_logits_are_the_same(name):
    network = seeded.read("pyslowfast", name)
    comparing.assert_same_logits(build(name), network, SIZE)


@pytest.mark.slow
def test_logits_of_r101_are_the_same():
    """Its config places blocks as for R50."""
    network = seeded.read("pyslowfast", "I3D_NLN_8x8_R101")
    blocks = {"res3": [1, 3], "res4": [1, 3, 5]}
    model = build("I3D_NLN_8x8_R50", depth=101, non_local=blocks)
    comparing.assert_same_logits(model, network, SIZE)


# The test detects mistakes: each of these gives other logits.
@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"convention": "video_nonlocal_net"},
        {"non_local_options": {"use_scale": False}},
        {"non_local_options": {"pool_position": "after"}},
        {"non_local_options": {"sub_sample": False}},
        {"non_local_options": {"scope": "space"}},
        {"non_local_options": {"scope": "time"}},
    ],
)
def test_logits_are_others_with_other_details(changes):
    network = seeded.read("pyslowfast", "I3D_NLN_8x8_R50")
    model = build("I3D_NLN_8x8_R50", **changes)
    load_weights(model, network.state, strict=False)
    error = comparing.relative_error(comparing.run(model, SIZE), network.outputs[SIZE])
    assert error > 50 * comparing.TOLERANCE


def test_a_model_of_another_convention_is_refused():
    network = seeded.read("pyslowfast", "I3D_NLN_8x8_R50")
    model = build("I3D_NLN_8x8_R50", convention="video_nonlocal_net")
    with pytest.raises(CheckpointError, match="convention.*pyslowfast"):
        load_weights(model, network.state)


@pytest.mark.backends
def test_checkpoint_of_its_training(tmp_path):
    import torch

    state = seeded.read("pyslowfast", "I3D_NLN_8x8_R50").state
    weights = comparing.tensors(state)
    momentum = {0: {"momentum_buffer": torch.ones(64, 3, 5, 7, 7)}}
    checkpoint = {
        "epoch": 195,
        "model_state": weights,
        "optimizer_state": {"state": momentum, "param_groups": [{"lr": 0.1}]},
        "cfg": "MODEL:\n  ARCH: i3d\n",
        "scaler_state": {"scale": 65536.0},
    }
    path = tmp_path / "checkpoint_epoch_00196.pyth"
    torch.save(checkpoint, path)
    comparing.assert_file_gives_the_same(build("I3D_NLN_8x8_R50"), state, path)
