"""ImageNet networks as backbones of detectors."""

import keras
import numpy as np
import pytest

from keras_nonlocal import MaskRCNN
from keras_nonlocal.convert import CheckpointError, load_weights
from keras_nonlocal.models import resnet_backbone
from tests.backends import assert_close, to_numpy
from tests.convert import spelling
from tests.convert.networks import draw_state
from tests.models.images import NumpyNetwork

CLASSIFIER = {"fc.weight": np.ones((9, 256), "float32"), "fc.bias": np.ones(9)}


def build(**options):
    return MaskRCNN(14, 3, width=8, min_size=64, **options)


@pytest.fixture(scope="module")
def state():
    """A ResNet-14 for images, under torchvision's names."""
    model = resnet_backbone(14, width=8)
    kernels = draw_state(model, spelling.torchvision)
    return {
        name: x.transpose(3, 2, 0, 1) if x.ndim == 4 else x
        for name, x in kernels.items()
    } | CLASSIFIER


def images():
    return np.random.default_rng(1).normal(size=(1, 67, 45, 3)).astype("float32")


def reference(model, state):
    """C2 to C5 of the project's own arrays."""
    network = NumpyNetwork(model)
    for path in network.weights:
        x = state[spelling.torchvision(path)].astype("float64")
        network.weights[path] = x.transpose(2, 3, 1, 0) if x.ndim == 4 else x
    return network.backbone(images())


def test_features_are_those_of_torchvision(state):
    model = resnet_backbone(14, width=8)
    assert not load_weights(model, state).new
    for actual, expected in zip(model(images()), reference(model, state), strict=True):
        assert_close(actual, expected, 2e-5)


def test_pyramid_heads_and_blocks_are_new(state):
    model = build(non_local={"res4": [0]})
    before = {x.path: to_numpy(x).copy() for x in model.weights}
    report = load_weights(model, state)
    assert report.source == "torchvision" and report.ok
    assert set(report.ignored) == set(CLASSIFIER)
    assert report.new_blocks == ("res4_0_nonlocal",)
    assert {x.split("_")[0] for x in report.new} == {
        *("res4", "fpn", "rpn", "box", "mask")
    }
    assert len(report.matched) + len(report.new) == len(model.weights)
    for weight in model.weights:
        is_new = weight.path in report.new
        assert np.array_equal(to_numpy(weight), before[weight.path]) == is_new
    stages = {x.name: x for x in model.backbone.layers}
    outputs = [stages[f"res{k}"].output for k in (2, 3, 4, 5)]
    maps = keras.Model(model.backbone.inputs[0], outputs)(images())
    expected = reference(resnet_backbone(14, width=8), state)
    for actual, wanted in zip(maps, expected, strict=True):
        assert_close(actual, wanted, 2e-5)


def test_other_strides_and_pixels_are_refused(state):
    model = build(convention="detectron")
    before = [to_numpy(x).copy() for x in model.weights]
    with pytest.raises(CheckpointError) as error:
        load_weights(model, state)
    text = str(error.value)
    assert "strides in its first 1x1, not in the 3x3" in text
    assert "takes BGR (0-255) minus (102.9801" in text
    assert "its weights RGB (0-255) minus (123.675" in text
    assert "convention='torchvision' or 'torchvision_v2'" in text
    assert "stride_in_1x1=" not in text
    for weight, x in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), x)


def test_a_backbone_of_other_strides_names_its_argument(state):
    model = resnet_backbone(14, width=8, stride_in_1x1=True)
    with pytest.raises(CheckpointError, match="stride_in_1x1=False"):
        load_weights(model, state)


def test_another_depth_is_named(state):
    with pytest.raises(CheckpointError, match="depth=14"):
        load_weights(MaskRCNN(26, 3, width=8), state)


def test_grouped_convolutions_load_where_the_network_has_them():
    model = resnet_backbone(14, width=8, groups=32, group_width=8)
    state = {
        name: x.transpose(3, 2, 0, 1) if x.ndim == 4 else x
        for name, x in draw_state(model, spelling.torchvision).items()
    }
    assert state["layer1.0.conv2.weight"].shape == (32, 1, 3, 3)
    report = load_weights(model, state)
    assert report.source == "torchvision" and not report.new
    kernel = to_numpy(model.get_layer("res2_0_branch2b").kernel)
    np.testing.assert_array_equal(
        kernel, state["layer1.0.conv2.weight"].transpose(2, 3, 1, 0)
    )
    with pytest.raises(CheckpointError, match="convolutions are in groups"):
        load_weights(resnet_backbone(14, width=8), state)


DETECTRON2 = {
    "branch1": "shortcut",
    "branch2a": "conv1",
    "branch2b": "conv2",
    "branch2c": "conv3",
}


def spell_detectron2(path):
    layer, kind = path.split("/")
    kind = {**spelling.TORCH_BN, **spelling.TORCH}[kind]
    layer, norm = layer.removesuffix("_bn"), ".norm" * layer.endswith("_bn")
    if layer.startswith("fpn_"):
        return f"backbone.{layer}.{kind}"
    if layer == "conv1":
        return f"backbone.bottom_up.stem.conv1{norm}.{kind}"
    stage, block, branch = layer.split("_")
    return f"backbone.bottom_up.{stage}.{block}.{DETECTRON2[branch]}{norm}.{kind}"


def test_backbone_and_pyramid_of_detectron2():
    """A `.pkl` of its model zoo: the model's arrays, and heads that are left out."""
    model = build(convention="detectron")
    rng = np.random.default_rng(0)
    state, paths = {}, {}
    for weight in model.backbone.weights:
        positive = weight.name in ("gamma", "moving_variance")
        x = rng.uniform(0.5, 1.5, weight.shape) if positive else None
        x = rng.normal(0, 0.1, weight.shape) if x is None else x
        name = spell_detectron2(weight.path)
        paths[weight.path] = name
        x = x.astype("float32")
        state[name] = x.transpose(3, 2, 0, 1) if x.ndim == 4 else x
    heads = {
        "proposal_generator.rpn_head.conv.weight": np.ones((32, 32, 3, 3)),
        "roi_heads.box_predictor.cls_score.weight": np.ones((81, 1024)),
        "pixel_mean": np.ones((3, 1, 1)),
    }
    content = {"model": state | heads, "__author__": "Detectron2 Model Zoo"}
    report = load_weights(model, content)
    assert report.source == "detectron2" and report.matched == paths
    assert set(report.ignored) == set(heads)
    assert {x.split("_")[0] for x in report.new} == {"rpn", "box", "mask"}
    network = NumpyNetwork(model.backbone, stride_in_1x1=True)
    for path in network.weights:
        x = state[paths[path]].astype("float64")
        network.weights[path] = x.transpose(2, 3, 1, 0) if x.ndim == 4 else x
    expected = network.pyramid(network.backbone(images()))
    for actual, wanted in zip(model.backbone(images()), expected, strict=True):
        assert_close(actual, wanted, 2e-5)
    with pytest.raises(CheckpointError, match="convention='detectron'"):
        load_weights(build(), content)


@pytest.mark.slow
@pytest.mark.parametrize("normalization", ["frozen", "batch"])
def test_features_are_those_of_keras_applications(normalization):
    network = keras.applications.ResNet50(weights=None, include_top=False)
    rng = np.random.default_rng(0)
    for weight in network.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif len(weight.shape) == 1:
            weight.assign(rng.normal(0, 0.3, weight.shape))
    model = MaskRCNN(convention="detectron", normalization=normalization)
    report = load_weights(model, network)
    assert report.source == "keras_applications" and report.ok
    outputs = model.backbone.get_layer("res5").output
    actual = keras.Model(model.backbone.inputs[0], outputs)(images())
    assert_close(actual, to_numpy(network(images())), 1e-4)
    with pytest.raises(CheckpointError, match="convention='detectron'"):
        load_weights(MaskRCNN(), network)
