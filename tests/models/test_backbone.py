"""ResNets and feature pyramids for images, against float64 NumPy."""

import keras
import numpy as np
import pytest

from keras_nonlocal.layers import FrozenBatchNorm
from keras_nonlocal.models import C2D, feature_pyramid, resnet_backbone
from tests.backends import assert_close, layer_gradients, to_numpy
from tests.models.images import NumpyNetwork

RESNEXT = {"groups": 4, "group_width": 16}


def images(height=67, width=98, count=2):
    shape = (count, height, width, 3)
    return np.random.default_rng(1).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride_in_1x1": True, "epsilon": 0.0},
        {"normalization": "batch"},
        {"non_local": {"res3": [0], "res4": [1]}},
        RESNEXT,
    ],
    ids=["torchvision", "detectron", "batch", "non_local", "resnext"],
)
@pytest.mark.parametrize(
    "size", [(None, None), pytest.param((67, 98), marks=pytest.mark.slow)]
)
def test_maps_of_all_stages(randomize, options, size):
    model = randomize(resnet_backbone(26, (*size, 3), width=16, **options))
    reference = {x: options[x] for x in ("epsilon", "stride_in_1x1") if x in options}
    expected = NumpyNetwork(model, **reference).backbone(images())
    maps = model(images())
    assert len(maps) == 4
    for actual, wanted in zip(maps, expected, strict=True):
        assert_close(actual, wanted, 2e-5)
        assert wanted.std() > 0.1


@pytest.mark.parametrize("normalization", [None, "batch"])
@pytest.mark.parametrize("size", [(64, 96), (67, 98), (33, 1)])
def test_pyramid(randomize, normalization, size):
    backbone = resnet_backbone(14, width=8)
    outputs = feature_pyramid(backbone.outputs, 16, normalization=normalization)
    model = randomize(keras.Model(backbone.input, outputs))
    network = NumpyNetwork(model)
    expected = network.pyramid(network.backbone(images(*size)))
    for actual, wanted in zip(model(images(*size)), expected, strict=True):
        assert_close(actual, wanted, 2e-5)
        assert wanted.std() > 0.01


def test_saved_and_rebuilt_pyramid_is_the_same(randomize, tmp_path):
    backbone = resnet_backbone(14, width=8, non_local={"res4": [0]}, **RESNEXT)
    outputs = feature_pyramid(backbone.outputs, 16)
    model = randomize(keras.Model(backbone.input, outputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for ours, again in zip(model(images()), loaded(images()), strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(again))


def test_layers_are_those_of_c2d():
    options = {"non_local": {"res3": [0], "res4": [1]}, "width": 8}
    image = resnet_backbone(26, (64, 64, 3), normalization="batch", **options)
    video = C2D(26, 10, (8, 64, 64, 3), **options)
    paths = [x.path for x in video.weights if not x.path.startswith("pred/")]
    assert [x.path for x in image.weights] == paths
    assert "res4_1_nonlocal/theta/kernel" in paths


@pytest.mark.parametrize(
    "depth, place", [(50, 4), pytest.param(101, 21, marks=pytest.mark.slow)]
)
def test_one_block_is_before_the_last_residual_block_of_res4(depth, place):
    model = resnet_backbone(depth, width=4, non_local=1)
    names = [x.name for x in model.layers]
    block = names.index(f"res4_{place}_nonlocal")
    assert names[block - 1] == f"res4_{place}_out"
    assert names[block + 1].startswith(f"res4_{place + 1}_branch2a")
    assert f"res4_{place + 2}_out" not in names


def test_only_the_block_s_normalization_is_trained_in_a_frozen_network():
    model = resnet_backbone(14, width=8, non_local={"res4": [0]})
    model.trainable = True
    trained = [x.path for x in model.trainable_weights]
    norms = [x for x in trained if x.endswith(("gamma", "beta"))]
    assert norms == ["res4_0_nonlocal/norm/gamma", "res4_0_nonlocal/norm/beta"]
    assert sum(x.endswith("kernel") for x in trained) == 17 + 4


def test_frozen_statistics_stay_in_training(randomize):
    model = randomize(resnet_backbone(14, width=8))
    before = [to_numpy(x).copy() for x in model.weights]
    for trained, not_trained in zip(
        model(images(), training=True), model(images()), strict=True
    ):
        assert_close(trained, to_numpy(not_trained), 1e-5)
    for x, y in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(x), y)


@pytest.mark.parametrize("epsilon", [0.0, 1e-5])
def test_frozen_gradient_is_the_scale(epsilon):
    rng = np.random.default_rng(0)
    layer = FrozenBatchNorm(epsilon=epsilon)
    x = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    layer.build(x.shape)
    gamma, beta, mean = rng.normal(size=(3, 5))
    variance = rng.uniform(1e-4, 2, 5)
    layer.set_weights([gamma, beta, mean, variance])
    scale = gamma / np.sqrt(variance + epsilon)
    assert_close(layer(x, training=True), scale * (x - mean) + beta, 1e-5)
    cotangent = rng.normal(size=x.shape).astype("float32")
    gradients = layer_gradients(layer, x, cotangent, training=True)
    assert [*gradients] == ["x"]
    assert_close(gradients["x"], scale * cotangent, 1e-5)


def test_a_new_block_is_an_exact_identity(randomize):
    plain = randomize(resnet_backbone(26, width=8))
    extended = resnet_backbone(26, width=8, non_local={"res4": [0]})
    values = {x.path: x for x in plain.weights}
    for weight in extended.weights:
        if weight.path in values:
            weight.assign(values[weight.path])
    for ours, same in zip(plain(images()), extended(images()), strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(same))


@pytest.mark.slow  # of whole detectors: test_describe.py
@pytest.mark.parametrize(
    "options, blocks, sizes",
    [
        ({"depth": 50}, 23_454_912, (256, 512, 1024, 2048)),
        ({"depth": 152, "groups": 32, "group_width": 8}, 120_028_352, (256, 2048)),
    ],
)
def test_numbers_of_trained_parameters(options, blocks, sizes):
    model = resnet_backbone(**options)
    assert sum(int(np.prod(x.shape)) for x in model.trainable_weights) == blocks
    assert {x.shape[-1] for x in model.outputs} >= {*sizes}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"depth": 34}, "depth=34"),
        ({"normalization": "frosen"}, "Did you mean 'frozen'"),
        ({"epsilon": -1e-5}, "number from 0"),
        ({"groups": 0}, "groups=0"),
        ({"width": 4, "group_width": 8}, "at least 16"),
        ({"input_shape": (8, 64, 64, 3)}, "height, width"),
        ({"non_local": {"res4": [6]}}, "indices 0 to 5"),
        ({"non_local_options": {"name": "x"}}, "resnet_backbone"),
        ({"non_local_options": {"mode": "embedded"}}, "embedded_gaussian"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        resnet_backbone(**options)


def test_unknown_normalization_of_the_pyramid():
    backbone = resnet_backbone(14, width=8)
    with pytest.raises(ValueError, match="feature_pyramid"):
        feature_pyramid(backbone.outputs, normalization="frozen")
