"""Test crops larger than the training crop: sliding classifier, or pool of the map."""

import types

import keras
import numpy as np
import pytest

from keras_nonlocal.models import C2D
from trainers.video_classification.configs import ModelConfig
from trainers.video_classification.data.configs import ClipConfig, DataConfig
from trainers.video_classification.scoring import build_scorer

NUM_FRAMES, NUM_CLASSES = 4, 5


@pytest.fixture(scope="module")
def model():
    model = C2D(14, NUM_CLASSES, (None, None, None, 3), width=4)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith("pred/kernel"):
            variable.assign(rng.normal(size=variable.shape, scale=0.05))
    return model


def make_config(
    test_crop, is_multilabel=False, convention="video_nonlocal_net", protocol="spread"
):
    data = DataConfig(crop_size=test_crop, is_multilabel=is_multilabel)
    data.test_protocol = protocol
    return types.SimpleNamespace(
        model=ModelConfig(convention=convention),
        clip=ClipConfig(num_frames=NUM_FRAMES),
        train_data=DataConfig(crop_size=64),
        validation_data=data,
    )


def clips_of(side, width=None):
    shape = (2, NUM_FRAMES, side, width or side, 3)
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def activated(logits, is_multilabel):
    if is_multilabel:
        return 1 / (1 + np.exp(-logits))
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


@pytest.mark.parametrize("is_multilabel", [False, True])
def test_crops_of_the_training_size_get_the_networks_own_scores(model, is_multilabel):
    clips = clips_of(64)
    logits, scores = build_scorer(model, make_config(64, is_multilabel))(clips)
    expected = np.asarray(model(clips, training=False))
    np.testing.assert_array_equal(logits, expected)
    np.testing.assert_allclose(scores, activated(expected, is_multilabel), rtol=1e-5)


def features_of(model, clips):
    res5 = keras.Model(model.input, model.get_layer("res5").output)
    return np.asarray(res5(clips, training=False))


@pytest.mark.parametrize("is_multilabel", [False, True])
@pytest.mark.parametrize(
    "clips, config",
    [  # res5 is 5 x 5, 2 x 4; 2 x 2 for a training crop
        (clips_of(160), {"test_crop": 160}),
        (clips_of(64, 128), {"test_crop": 64, "protocol": "paper"}),
    ],
    ids=["crops", "whole frames"],
)
def test_on_larger_clips_the_probabilities_of_windows_are_averaged(
    model, clips, config, is_multilabel
):
    config = make_config(is_multilabel=is_multilabel, **config)
    logits, scores = build_scorer(model, config)(clips)
    features, size = (
        features_of(model, clips),
        features_of(model, clips_of(64)).shape[2],
    )
    kernel, bias = model.get_layer("pred").get_weights()
    assert 1 <= size < features.shape[3]
    windows = []
    for y in range(features.shape[2] - size + 1):
        for x in range(features.shape[3] - size + 1):
            pooled = features[:, :, y : y + size, x : x + size].mean((1, 2, 3))
            windows.append(activated(pooled @ kernel + bias, is_multilabel))
    expected = np.mean(windows, axis=0)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    np.testing.assert_allclose(activated(logits, is_multilabel), expected, rtol=1e-4)
    own = activated(np.asarray(model(clips, training=False)), is_multilabel)
    assert np.abs(own - expected).max() > 1e-3


@pytest.mark.parametrize("convention", ["mmaction2", "gluoncv"])
def test_conventions_without_a_window_pool_the_whole_map_first(model, convention):
    clips = clips_of(160)
    config = make_config(160, convention=convention, protocol="mmaction2")
    logits, scores = build_scorer(model, config)(clips)
    kernel, bias = model.get_layer("pred").get_weights()
    expected = features_of(model, clips).mean((1, 2, 3)) @ kernel + bias
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores, activated(expected, False), rtol=1e-4)
