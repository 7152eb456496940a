"""The same logits as the authors' networks under Caffe2's names.

`video_nonlocal_net.npz` holds what `make_video_nonlocal_net_values.py` beside it
computed from the published definition of facebookresearch/video-nonlocal-net.
"""

import pickle

import pytest

from keras_nonlocal.models import C2D, I3D
from tests.parity import comparing, seeded

SIZE = "8x224x224"
AFFINE = {"normalization": None, "res3": {"group_size": 4}}
NETWORKS = {
    "c2d_r50": (C2D, SIZE, {}),
    "c2d_nl5_r50": (C2D, SIZE, {"non_local": 5}),
    "i3d_r50": (I3D, SIZE, {}),
    "i3d_nl5_r50": (I3D, SIZE, {"non_local": 5}),
    "i3d_nl5_r50_dot_product": (
        I3D,
        SIZE,
        {"non_local": 5, "non_local_options": {"mode": "dot_product"}},
    ),
    "i3d_nl5_r50_affine": (
        I3D,
        "16x96x96",
        {"non_local": 5, "non_local_options": AFFINE},
    ),
    "i3d_nl5_r50_32x2": (I3D, "32x224x224", {"stem": "32x2", "non_local": 5}),
    "i3d_nl5_r101": (I3D, SIZE, {"depth": 101, "non_local": 5}),
}
# Others cover these as well: networks without blocks, deeper ones, longer clips.
SLOW = ("c2d_r50", "i3d_r50", "i3d_nl5_r101", "i3d_nl5_r50_32x2")
SLOW += ("i3d_nl5_r50_dot_product", "c2d_nl5_r50")
# Blobs of a released checkpoint, without those of training.
BLOBS = {"i3d_r50": 267, "i3d_nl5_r50": 327, "i3d_nl5_r101": 582}


def build(name):
    builder, size, options = NETWORKS[name]
    return builder(input_shape=comparing.frames(size), **options)


@pytest.mark.parametrize("name", comparing.with_slow(NETWORKS, SLOW))
def test_logits_are_the_same(name):
    network = seeded.read("video_nonlocal_net", name)
    report = comparing.assert_same_logits(build(name), network, NETWORKS[name][1])
    assert set(report.ignored) == {x for x in network.state if is_of_training(x)}
    assert len(report.matched) == BLOBS.get(name, len(report.matched))


def is_of_training(blob):
    return blob.endswith("_momentum") or blob in ("lr", "model_iter")


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [False, True], ids=["flat", "blobs"])
def test_pickles(tmp_path, wrapped):
    """Files as the scripts that prepare weights write them, and as training does."""
    state = seeded.read("video_nonlocal_net", "c2d_r50").state
    path = tmp_path / "c2d_baseline.pkl"
    with open(path, "wb") as file:
        pickle.dump({"blobs": state} if wrapped else state, file, protocol=2)
    comparing.assert_file_gives_the_same(build("c2d_r50"), state, path)
