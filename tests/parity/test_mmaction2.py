"""The same logits as open-mmlab/mmaction2, with the same weights.

`mmaction2.npz` holds the results of that project; `make_mmaction2_values.py` beside
it says how it was made.
"""

import pytest

from keras_nonlocal.models import C2D, I3D
from tests.parity import comparing, seeded

MODES = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")
# The network's own 32 frames take longer.
SIZES = ["8x224x224", pytest.param("32x224x224", marks=pytest.mark.slow)]


def build_i3d(size, **options):
    shape = comparing.frames(size)
    return I3D(input_shape=shape, stem="32x2", convention="mmaction2", **options)


def non_local(mode):
    return {"non_local": 5, "non_local_options": {"mode": mode}}


# The other modes in the default tier: test_alexhex7.py, test_pyslowfast.py.
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "mode", comparing.with_slow(MODES, set(MODES) - {"concatenation"})
)
def test_logits_of_non_local_i3d_are_the_same(mode, size):
    network = seeded.read("mmaction2", f"i3d_nl_{mode}_r50")
    comparing.assert_same_logits(build_i3d(size, **non_local(mode)), network, size)


@pytest.mark.slow  # those with blocks have all of its weights
@pytest.mark.parametrize("size", ["8x224x224", "32x224x224"])
def test_logits_of_i3d_are_the_same(size):
    network = seeded.read("mmaction2", "i3d_r50")
    comparing.assert_same_logits(build_i3d(size), network, size)


@pytest.mark.slow
def test_logits_of_c2d_are_the_same():
    network = seeded.read("mmaction2", "c2d_r50")
    model = C2D(input_shape=comparing.frames("8x224x224"), convention="mmaction2")
    comparing.assert_same_logits(model, network, "8x224x224")


@pytest.mark.backends
def test_checkpoint_of_its_training(tmp_path):
    import torch

    state = seeded.read("mmaction2", "i3d_nl_gaussian_r50").state
    checkpoint = {
        "meta": {"epoch": 100, "iter": 375000, "dataset_meta": {}, "seed": 1},
        "state_dict": comparing.tensors(state),
        "message_hub": {"log_scalars": {}, "runtime_info": {"lr": [0.0001]}},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.0001}]},
        "param_schedulers": [{"milestones": {40: 1, 80: 1}}],
    }
    path = tmp_path / "epoch_100.pth"
    torch.save(checkpoint, path)
    model = build_i3d("8x224x224", **non_local("gaussian"))
    comparing.assert_file_gives_the_same(model, state, path)
