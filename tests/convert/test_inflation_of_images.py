"""ImageNet networks inflated: still frames give what the image gave."""

import keras
import numpy as np
import pytest

from keras_nonlocal.convert import CheckpointError, load_weights
from keras_nonlocal.models import C2D, I3D
from tests.convert import spelling
from tests.convert.networks import TorchNetwork, draw_state, numpy

STAGES = ("res2", "res3", "res4", "res5")
PADDED = ((1, 3, 3), (1, 2, 2), (0, 1, 1))  # as in torchvision
SMALL = {"width": 8, "convention": "pyslowfast"}


@pytest.fixture(scope="module")
def image_state():
    model = C2D(50, 1000, (2, 40, 40, 3), **SMALL)
    return draw_state(model, spelling.torchvision, image=True)


def still(num_frames):
    frame = np.random.default_rng(1).normal(size=(1, 1, 40, 40, 3)).astype("float32")
    return np.repeat(frame, num_frames, axis=1)


def image_features(state):
    features = TorchNetwork(state, spelling.torchvision, PADDED).features(still(2))
    return {stage: x[:, :1] for stage, x in features.items()}


def stage_features(model, clips):
    outputs = {stage: model.get_layer(stage).output for stage in STAGES}
    return {k: numpy(x) for k, x in keras.Model(model.input, outputs)(clips).items()}


def distance(features, expected):
    """Of each frame, relative to the largest feature."""
    return np.abs(features - expected).max((0, 2, 3, 4)) / np.abs(expected).max()


@pytest.mark.backends
def test_every_frame_of_a_c2d_is_the_image(image_state):
    model = C2D(50, 5, (4, 40, 40, 3), non_local=5, **SMALL)
    report = load_weights(model, image_state)
    assert report.source == "torchvision" and not report.inflated
    features = stage_features(model, still(4))
    for stage, expected in image_features(image_state).items():
        assert distance(features[stage], expected).max() < 1e-5, stage
        # one frame after another, to the last bit
        first = np.broadcast_to(features[stage][:, :1], features[stage].shape)
        np.testing.assert_array_equal(features[stage], first)


@pytest.mark.backends
@pytest.mark.parametrize("temporal_kernel", ["3x1x1", "3x3x3"])
def test_an_i3d_sees_the_image_away_from_the_ends_of_the_clip(
    image_state, temporal_kernel
):
    model = I3D(
        50, 5, (48, 40, 40, 3), non_local=5, temporal_kernel=temporal_kernel, **SMALL
    )
    report = load_weights(model, image_state)
    assert len(report.inflated) == 10  # conv1, 3 + 2 + 3 + 1 blocks
    features = stage_features(model, still(48))
    # Frames from either end that a stage sees padding from: conv1 reaches over 2,
    # each inflated block over 1, of every second frame behind res2.
    reach = {"res2": 5, "res3": 5, "res4": 8, "res5": 9}
    for stage, expected in image_features(image_state).items():
        error = distance(features[stage], expected)
        ends = reach[stage]
        assert error[ends:-ends].max() < 1e-5, stage
        assert min(error[0], error[-1]) > 1e-2, stage


def test_a_single_frame_of_inflated_kernels_sums_to_the_image_kernel(image_state):
    model = I3D(50, 5, (8, 40, 40, 3), **SMALL)
    load_weights(model, image_state)
    kernel = numpy(model.get_layer("conv1").kernel)
    image = image_state["conv1.weight"].transpose(2, 3, 1, 0)
    assert kernel.shape[0] == 5
    np.testing.assert_array_equal(kernel, np.stack([image / np.float32(5)] * 5))
    np.testing.assert_allclose(kernel.sum(0), image, rtol=1e-6)


def test_non_local_blocks_and_classifier_are_new_not_missing(image_state):
    model = I3D(50, 5, (8, 40, 40, 3), non_local=5, **SMALL)
    head = numpy(model.get_layer("pred").kernel)
    report = load_weights(model, image_state)
    assert report.ok
    layers = {path.split("/")[0] for path in report.new}
    assert len(layers) == 6 and {"pred", "res4_5_nonlocal"} < layers
    assert {"fc.weight", "fc.bias"} <= set(report.ignored)
    np.testing.assert_array_equal(numpy(model.get_layer("pred").kernel), head)


def test_a_classifier_of_as_many_classes_is_loaded_unless_skipped(image_state):
    model = C2D(50, 1000, (2, 40, 40, 3), **SMALL)
    report = load_weights(model, image_state, skip_classifier=True)
    assert report.new == ("pred/kernel", "pred/bias")
    assert load_weights(model, image_state).new == ()
    kernel = numpy(model.get_layer("pred").kernel)
    np.testing.assert_array_equal(kernel, image_state["fc.weight"].T)


def test_a_backbone_without_classifier_loads(image_state):
    bare = {n: x for n, x in image_state.items() if not n.startswith("fc.")}
    model = C2D(50, 5, (2, 40, 40, 3), **SMALL)
    assert load_weights(model, bare).new == ("pred/kernel", "pred/bias")
    headless = C2D(50, 5, (2, 40, 40, 3), include_top=False, **SMALL)
    assert load_weights(headless, image_state).ok


def test_images_under_caffe2s_names_need_no_convention():
    model = C2D(14, 5, (4, 40, 40, 3), **SMALL)
    state = draw_state(model, spelling.video_nonlocal_net, image=True)
    report = load_weights(I3D(14, 9, (4, 40, 40, 3), **SMALL), state)
    assert report.ok and report.source == "video_nonlocal_net"
    assert len(report.inflated) == 4 and "pred/bias" in report.new


@pytest.mark.parametrize(
    "name, shape, message",
    [
        ("conv1.0.weight", (32, 3, 3, 3), "a stem of several convolutions"),
        ("layer1.0.se.fc1.weight", (16, 64, 1, 1), "squeeze-and-excitation"),
        ("layer2.0.downsample.2.weight", (512,), "average pooling in its shortcuts"),
        ("layer1.0.conv2.weight", (64, 32, 3, 3), "convolutions are in groups"),
        ("layer1.0.conv2.weight", (16, 16, 3, 3), "its blocks are wide"),
        ("layer1.0.conv2.weight", (8, 8, 3, 3, 3), r"not \(O, I, H, W\)"),
    ],
)
def test_variants_of_resnet_are_refused_with_the_reason(
    image_state, name, shape, message
):
    state = image_state | {name: np.zeros(shape)}
    model = C2D(14, 5, (4, 40, 40, 3), **SMALL)
    with pytest.raises(CheckpointError, match=f"plain ResNet-50.*{message}"):
        load_weights(model, state, strict=False)


def test_resnet_18_is_refused(image_state):
    state = {n: x for n, x in image_state.items() if "conv3" not in n}
    model = C2D(14, 5, (4, 40, 40, 3), **SMALL)
    with pytest.raises(CheckpointError, match="two convolutions, as ResNet-18"):
        load_weights(model, state)
