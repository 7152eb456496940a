"""Inflated ImageNet networks see a still image as torchvision's ResNet does.

`torchvision.npz` holds what that project computed on one image;
`make_torchvision_values.py` beside it says how it was made.
"""

import keras
import pytest

from keras_nonlocal.convert import load_weights
from keras_nonlocal.models import C2D, I3D
from tests.backends import to_numpy
from tests.parity import comparing, seeded

IMAGE = "1x64x64"
CHANNELS = slice(None, None, 8)  # of res5, those in the file
TOLERANCE = 1e-5


def still(frames):
    return seeded.clip(IMAGE).repeat(frames, axis=1)


def inflate(builder, name, frames, **options):
    """A model that returns `(res5, logits)`, and the results of the image network."""
    network = seeded.read("torchvision", name)
    options = {"num_classes": 1000, "convention": "pyslowfast"} | options
    model = builder(input_shape=(frames, 64, 64, 3), **options)
    report = load_weights(model, network.state)
    outputs = [model.get_layer("res5").output, model.output]
    return keras.Model(model.input, outputs), network.outputs, report


@pytest.mark.parametrize(
    ("name", "depth"),
    [("resnet50", 50), pytest.param("resnet101", 101, marks=pytest.mark.slow)],
)
def test_c2d_is_the_image_network_in_every_frame(name, depth):
    model, expected, _ = inflate(C2D, name, frames=4, depth=depth)
    features, logits = map(to_numpy, model(still(4), training=False))
    for t in range(2):
        of_frame = features[:, t, ..., CHANNELS]
        assert comparing.relative_error(of_frame, expected["res5"]) < TOLERANCE
    assert comparing.relative_error(logits, expected["logits"]) < TOLERANCE


# Zeros beyond the first and the last frame reach 5 frames inwards by res2, thus 3 of
# the pairs that pool2 takes, and then 2 more in res3, 3 in res4, 1 in res5.
@pytest.mark.parametrize(
    "temporal_kernel", ["3x1x1", pytest.param("3x3x3", marks=pytest.mark.slow)]
)
def test_i3d_is_the_image_network_away_from_the_ends(temporal_kernel):
    reach = 3 + 2 + 3 + 1
    model, expected, report = inflate(
        I3D, "resnet50", frames=40, temporal_kernel=temporal_kernel
    )
    features = to_numpy(model(still(40), training=False)[0])
    errors = [
        comparing.relative_error(features[:, t, ..., CHANNELS], expected["res5"])
        for t in range(20)
    ]
    assert max(errors[reach:-reach]) < TOLERANCE
    assert min(errors[0], errors[-1]) > 100 * TOLERANCE
    assert "conv1/kernel" in report.inflated


def test_new_non_local_blocks_change_nothing():
    model, expected, report = inflate(C2D, "resnet50", frames=4, non_local=5)
    assert {path.split("/")[0] for path in report.new} == {
        f"res{stage}_{i}_nonlocal"
        for stage, i in ((3, 1), (3, 3), (4, 1), (4, 3), (4, 5))
    }
    logits = to_numpy(model(still(4), training=False)[1])
    assert comparing.relative_error(logits, expected["logits"]) < TOLERANCE


@pytest.mark.backends
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_files(tmp_path, zipped):
    """In the formats of PyTorch since 1.6 and before."""
    import torch

    state = seeded.read("torchvision", "resnet50").state
    path = tmp_path / "resnet50.pth"
    content = comparing.tensors(state)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    model = C2D(50, 1000, (2, 64, 64, 3), convention="pyslowfast")
    comparing.assert_file_gives_the_same(model, state, path)
