import keras
import numpy as np
import pytest

from keras_nonlocal.models import C2D, fully_convolutional


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def softmax(x):
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def clips(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.fixture(scope="module")
def model(randomize):
    return randomize(C2D(14, 5, (4, 64, 64, 3), width=4, non_local={"res3": [0]}))


def test_one_window_gives_the_softmax_of_the_model(model):
    x = clips(2, 4, 64, 64, 3)
    tiled = fully_convolutional(model)
    np.testing.assert_allclose(
        numpy(tiled(x)), softmax(numpy(model(x))), rtol=1e-5, atol=1e-6
    )


def features_of_any_size(model):
    free = C2D(
        14,
        5,
        (None, None, None, 3),
        width=4,
        non_local={"res3": [0]},
        include_top=False,
    )
    for weight, value in zip(free.weights, model.weights, strict=False):
        weight.assign(value)
    return free


def test_scores_are_the_mean_softmax_over_windows(model):
    x = clips(2, 6, 96, 128, 3)
    tiled = fully_convolutional(model)
    features = numpy(features_of_any_size(model)(x))
    assert features.shape == (2, 3, 3, 4, 128)  # and windows are 2x2
    kernel, bias = map(numpy, model.get_layer("pred").weights)
    scores = [
        softmax(features[:, :, i : i + 2, j : j + 2].mean((1, 2, 3)) @ kernel + bias)
        for i in range(2)
        for j in range(3)
    ]
    got = numpy(tiled(x))
    np.testing.assert_allclose(got, np.mean(scores, axis=0), rtol=1e-4, atol=1e-6)
    whole = softmax(features.mean((1, 2, 3)) @ kernel + bias)
    assert np.abs(got - whole).max() > 1e-3  # not the softmax of the mean


def test_sigmoid_scores_do_not_compete(model):
    x = clips(1, 4, 64, 64, 3)
    got = numpy(fully_convolutional(model, activation="sigmoid")(x))
    expected = 1 / (1 + np.exp(-numpy(model(x))))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_weights_are_shared_and_the_model_is_left_as_it_was(model, tmp_path):
    x = clips(1, 4, 64, 64, 3)
    before = numpy(model(x))
    tiled = fully_convolutional(model)
    assert {id(w) for w in tiled.weights} == {id(w) for w in model.weights}
    np.testing.assert_array_equal(numpy(model(x)), before)
    for network in (model, tiled):
        path = tmp_path / f"{network.name}.keras"
        network.save(path)
        loaded = keras.saving.load_model(path)
        np.testing.assert_array_equal(numpy(loaded(x)), numpy(network(x)))


def test_window_is_needed_for_a_dynamic_input():
    dynamic = C2D(14, 5, (None, None, None, 3), width=4)
    with pytest.raises(ValueError, match=r"needs `window`.*\(7, 7\) for 224x224"):
        fully_convolutional(dynamic)
    x = clips(1, 4, 64, 64, 3)
    got = numpy(fully_convolutional(dynamic, window=(2, 2))(x))
    np.testing.assert_allclose(got, softmax(numpy(dynamic(x))), rtol=1e-5)


def test_model_without_top_is_an_error():
    headless = C2D(14, 5, (4, 64, 64, 3), width=4, include_top=False)
    with pytest.raises(ValueError, match=r"needs a classifier.*include_top=True"):
        fully_convolutional(headless)


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_clip_smaller_than_the_window_is_an_error(run_eagerly):
    # A model of its own: on JAX, Keras leaves it without weights when predict fails.
    tiled = fully_convolutional(C2D(14, 5, (4, 64, 64, 3), width=4))
    tiled.compile(run_eagerly=run_eagerly)
    with pytest.raises(ValueError, match=r"window of \(1, 2, 2\) .* \(2, 1, 2\)"):
        tiled.predict(clips(1, 4, 32, 64, 3), verbose=0)


@pytest.mark.parametrize("window", [7, (7,), (0, 7), (2.5, 2), "77"])
def test_window_must_be_two_sizes(model, window):
    with pytest.raises(ValueError, match=r"`window` of fully_convolutional"):
        fully_convolutional(model, window=window)
