"""Blocks inserted into every network of `keras.applications`."""

import keras
import numpy as np
import pytest

from keras_nonlocal import NonLocalBlock, insert_blocks
from tests.backends import to_numpy

# Networks by the layer that a block follows, the smallest network of a family first.
NETWORKS = {
    "block3_pool": ("VGG16", "VGG19"),
    "conv4_block5_out": (
        *("ResNet50", "ResNet101", "ResNet152"),
        *("ResNet50V2", "ResNet101V2", "ResNet152V2"),
    ),
    "conv4_block6_concat": ("DenseNet121", "DenseNet169", "DenseNet201"),
    "mixed7": ("InceptionV3",),
    "mixed_6a": ("InceptionResNetV2",),
    "block13_sepconv2_bn": ("Xception",),
    "conv_pw_6_relu": ("MobileNet",),
    "block_8_add": ("MobileNetV2",),
    "expanded_conv_5_add": ("MobileNetV3Small", "MobileNetV3Large"),
    "normal_concat_2": ("NASNetMobile", "NASNetLarge"),
    "block5a_expand_activation": (
        *("EfficientNetB0", "EfficientNetB1", "EfficientNetB2", "EfficientNetB3"),
        *("EfficientNetB4", "EfficientNetB5", "EfficientNetB6", "EfficientNetB7"),
        *("EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2B2"),
        *("EfficientNetV2B3", "EfficientNetV2S", "EfficientNetV2M", "EfficientNetV2L"),
    ),
    "{}_stage_2_block_1_identity": (
        *("ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge"),
        "ConvNeXtXLarge",
    ),
}
PLACES = {name: place for place, names in NETWORKS.items() for name in names}
FAMILIES = [names[0] for names in NETWORKS.values()]
FAMILIES += ["ResNet50V2", "EfficientNetV2B0"]
IN_THE_FIRST_TIER = ("VGG16", "MobileNet")
SIZE = 75  # the smallest that all of them take


def insert(name, frozen=False):
    """A network, its copy with a block, and the block."""
    build = getattr(keras.applications, name)
    options = {"weights": None, "include_top": False, "pooling": "avg"}
    model = build(input_shape=(SIZE, SIZE, 3), **options)
    model.trainable = not frozen
    block = NonLocalBlock()
    place = PLACES[name].format(model.name)
    return model, insert_blocks(model, after={place: block}), block


def images():
    rng = np.random.default_rng(0)
    return rng.uniform(0, 255, (2, SIZE, SIZE, 3)).astype("float32")


def features(model):
    return to_numpy(model(images()))


def assert_equal(model, other):
    expected = features(model)
    assert np.abs(expected[0] - expected[1]).max() > 0
    np.testing.assert_array_equal(features(other), expected)
    return expected


def train(model):
    optimizer = keras.optimizers.SGD(10.0)  # some gradients are tiny
    run_eagerly = keras.backend.backend() != "jax"
    model.compile(optimizer, "mse", run_eagerly=run_eagerly)
    targets = 1 + np.zeros((2, model.output_shape[-1]))
    model.train_on_batch(images(), targets)


def assert_saved(model, expected, folder):
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    np.testing.assert_array_equal(features(loaded), expected)


def slow_unless_first(names):
    for name in names:
        is_first = name in IN_THE_FIRST_TIER
        yield name if is_first else pytest.param(name, marks=pytest.mark.slow)


def test_every_network_is_tested():
    names = dir(keras.applications)
    assert set(PLACES) == {name for name in names if name[0].isupper()}


# `make test-backends` leaves the slow ones out: to run them on another backend, run
# this file with KERAS_BACKEND=jax and `-m slow`.
@pytest.mark.parametrize("name", slow_unless_first(FAMILIES))
def test_one_network_of_each_family(name, tmp_path):
    if name == "NASNetMobile" and keras.backend.backend() == "torch":
        pytest.skip("Keras does not build NASNet on PyTorch")
    model, new, block = insert(name)
    expected = assert_equal(model, new)
    assert_saved(new, expected, tmp_path)
    block.norm.gamma.assign(np.full(block.norm.gamma.shape, 1e3))
    assert np.abs(features(new) - expected).max() > 0  # it is in use
    block.norm.gamma.assign(np.zeros(block.norm.gamma.shape))
    first, *_, last = (weight for weight in new.weights if weight.name == "kernel")
    before = [to_numpy(weight).copy() for weight in (first, last)]
    train(new)
    for weight, value in zip((first, last), before, strict=True):
        assert np.abs(to_numpy(weight) - value).max() > 0
    assert np.abs(to_numpy(block.norm.gamma)).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PLACES if name not in FAMILIES])
def test_the_larger_networks(name, tmp_path):
    model, new, block = insert(name, frozen=True)  # a faster step
    expected = assert_equal(model, new)
    del model
    assert_saved(new, expected, tmp_path)
    train(new)
    assert np.abs(to_numpy(block.norm.gamma)).max() > 0
