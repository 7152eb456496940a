"""Folded networks: the same outputs, and no normalisation left."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_nonlocal import NonLocal2D, fold_batch_norm
from keras_nonlocal.models import C2D, CONVENTIONS, I3D
from tests.convert.networks import numpy
from tests.convert.test_keras_resnet import randomize, weights

CLIP = (4, 48, 48, 3)


def clips(shape=CLIP):
    return np.random.default_rng(2).normal(size=(2, *shape)).astype("float32")


def assert_folded(folded, model, x=None, tolerance=2e-5):
    x = clips() if x is None else x
    before, after = numpy(model(x)), numpy(folded(x))
    atol = tolerance * np.abs(before).max()
    np.testing.assert_allclose(after, before, rtol=0, atol=atol)
    assert np.abs(before).max() > 0.1
    assert not [w.path for w in folded.weights if w.name in ("gamma", "moving_mean")]
    assert not any(
        isinstance(layer, layers.BatchNormalization) for layer in folded.layers
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(
    "architecture", [pytest.param(C2D, marks=pytest.mark.slow), I3D]
)
def test_networks_of_every_convention(architecture, convention):
    model = architecture(
        26, 7, CLIP, width=4, non_local={"res3": [0, 1]}, convention=convention
    )
    before = weights(randomize(model))
    assert_folded(fold_batch_norm(model), model)
    for path, value in weights(model).items():
        np.testing.assert_array_equal(value, before[path])


@pytest.mark.parametrize("mode", ["gaussian", "dot_product", "concatenation"])
def test_blocks_of_every_mode(mode):
    options = {"mode": mode, "scope": "space"}
    model = C2D(
        14, 7, CLIP, width=4, non_local={"res4": [0]}, non_local_options=options
    )
    folded = fold_batch_norm(randomize(model))
    assert_folded(folded, model)
    block = folded.get_layer("res4_0_nonlocal")
    assert block.mode == mode and block.scope == "space"
    assert block.norm is None and block.w_z.use_bias


def test_clips_of_any_size_and_a_deep_network():
    shape = (None, None, None, 3)
    model = randomize(I3D(50, 7, shape, width=2, non_local=5, convention="mmaction2"))
    folded = fold_batch_norm(model)
    assert folded.input_shape == (None, *shape)
    for size in ((4, 48, 48, 3), (6, 40, 72, 3)):  # rounding of 53 convolutions
        assert_folded(folded, model, clips(size), tolerance=2e-4)


def test_weights_of_now_can_be_folded_into_an_earlier_result():
    model = randomize(C2D(14, 7, CLIP, width=4, non_local={"res3": [0]}))
    earlier = fold_batch_norm(model)
    outputs = numpy(earlier(clips()))
    for weight in model.weights:
        weight.assign(weight * 1.1)
    assert fold_batch_norm(model, into=earlier) is earlier
    assert_folded(earlier, model)
    assert np.abs(numpy(earlier(clips())) - outputs).max() > 0.1


def test_bfloat16_is_computed_and_kept_but_for_the_classifier():
    model = randomize(C2D(14, 7, CLIP, width=4, non_local={"res3": [0]}))
    folded = fold_batch_norm(model, "bfloat16")
    kept = {weight.path: weight.dtype for weight in folded.weights}
    assert {kept.pop("pred/kernel"), kept.pop("pred/bias")} == {"float32"}
    assert set(kept.values()) == {"bfloat16"}
    before, after = numpy(model(clips())), numpy(folded(clips()))
    assert after.dtype == np.float32
    difference = np.abs(after - before).max() / np.abs(before).max()
    assert 1e-5 < difference < 0.03


def test_a_folded_network_comes_back_from_its_file(tmp_path):
    options = {"non_local": {"res3": [0]}, "width": 4, "stride_in_1x1": True}
    folded = fold_batch_norm(randomize(C2D(14, 7, CLIP, **options)))
    folded.save(tmp_path / "folded.keras")
    again = keras.saving.load_model(tmp_path / "folded.keras")
    np.testing.assert_array_equal(numpy(again(clips())), numpy(folded(clips())))


def test_blocks_without_normalisation_stay_as_they_are():
    options = {"normalization": None, "use_output_bias": False}
    model = C2D(
        14, 7, CLIP, width=4, non_local={"res3": [0]}, non_local_options=options
    )
    folded = fold_batch_norm(randomize(model))
    assert not folded.get_layer("res3_0_nonlocal").w_z.use_bias
    assert_folded(folded, model)


def test_other_functional_models_with_biases_and_partial_normalisations():
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(images)
    x = layers.BatchNormalization(scale=False, epsilon=0.1)(x)
    x = NonLocal2D(normalization_options={"epsilon": 0.2})(layers.ReLU()(x))
    x = layers.Dense(5, use_bias=False)(layers.GlobalAveragePooling2D()(x))
    x = layers.BatchNormalization(center=False)(x)
    model = randomize(keras.Model(images, x))
    assert_folded(fold_batch_norm(model), model, clips((8, 8, 3)))


def of(*names):
    """A model with a normalisation that cannot be folded."""
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv", activation="relu" if "relu" in names else None)
    if "first" in names:
        return keras.Model(images, layers.BatchNormalization(name="bn")(images))
    x = x(images)
    norm = layers.BatchNormalization(axis=1 if "rows" in names else -1, name="bn")
    y = norm(x)
    if "twice" in names:
        y = norm(y)
    if "within" in names:
        y = keras.Model(images, y, name="inner")(images)
    return keras.Model(images, [x, y] if "shared" in names else y)


@pytest.mark.parametrize(
    "name, message",
    [
        ("first", "'bn' .*does not follow a convolution"),
        ("relu", "'bn' .*follows the activation of 'conv'"),
        ("rows", "'bn' .*does not normalise the last axis"),
        ("twice", "'bn' .*is used several times"),
        ("shared", "'bn' .*not alone in using the outputs of 'conv'"),
        ("within", "'inner' .*contains batch normalisation"),
    ],
)
def test_what_cannot_be_folded_is_named(name, message):
    with pytest.raises(ValueError, match=message):
        fold_batch_norm(of(name))


def test_only_functional_models_are_taken():
    for model in (keras.Sequential([layers.Dense(2)]), "model.keras", keras.Layer()):
        with pytest.raises(ValueError, match="needs a functional keras.Model"):
            fold_batch_norm(model)
