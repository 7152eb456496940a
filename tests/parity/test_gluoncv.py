"""The same logits as dmlc/gluon-cv's PyTorch networks, with the same weights.

`gluoncv.npz` holds the results of that project; `make_gluoncv_values.py` beside it
says how it was made.
"""

import pytest

from keras_nonlocal.models import I3D
from tests.parity import comparing, seeded

NETWORKS = {
    "i3d_resnet50_v1_kinetics400": {},
    "i3d_nl5_resnet50_v1_kinetics400": {"non_local": 5},
    "i3d_nl10_resnet50_v1_kinetics400": {"non_local": 10},
    "i3d_nl5_resnet101_v1_kinetics400": {"depth": 101, "non_local": 5},
}


def build(name, size):
    options = {"stem": "32x2", "convention": "gluoncv"} | NETWORKS[name]
    return I3D(input_shape=comparing.frames(size), **options)


def test_logits_are_the_same():
    check_logits("i3d_nl5_resnet50_v1_kinetics400", "8x224x224")


@pytest.mark.slow  # larger ones, those with fewer blocks, and their own 32 frames
@pytest.mark.parametrize("size", ["8x224x224", "32x224x224"])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_of_all_networks_are_the_same(name, size):
    check_logits(name, size)


def check_logits(name, size):
    network = seeded.read("gluoncv", name)
    comparing.assert_same_logits(build(name, size), network, size)


@pytest.mark.backends
@pytest.mark.parametrize("trained", [False, True], ids=["zoo", "training"])
def test_files(tmp_path, trained):
    """Weights alone, as in the model zoo; a checkpoint of distributed training."""
    import torch

    name = "i3d_nl5_resnet50_v1_kinetics400"
    state = seeded.read("gluoncv", name).state
    content = comparing.tensors(state)
    if trained:
        content = {
            "epoch": 100,
            "state_dict": {f"module.{name}": x for name, x in content.items()},
            "best_acc1": None,
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.0001}]},
        }
    path = tmp_path / "f32_s2_ckpt_epoch99.pth"
    torch.save(content, path)
    comparing.assert_file_gives_the_same(build(name, "8x224x224"), state, path)
