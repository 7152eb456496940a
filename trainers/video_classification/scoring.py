"""How a trained network scores a clip: the same in test, prediction and export."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_nonlocal.models import (
    CONVENTIONS,
    fold_batch_norm,
    fully_convolutional,
)


def inference_form(model, precision=None, into=None):
    """The network for inference: batch normalisation is folded into convolutions.

    Args:
        model: `C2D` or `I3D`.
        precision: dtype of computation; None: that of `model`.
        into: See `fold_batch_norm`.
    """
    return fold_batch_norm(model, precision or model.compute_dtype, into)


def build_scorer(model, config, with_features: bool = False) -> Callable:
    """A function from normalised clips to `(logits, probabilities)`, float32.

    With `with_features`, to `(logits, probabilities, features)`: the last are what the
    classifier receives, float32 `(batch, channels)`; where it slides, their mean over
    locations.

    Under conventions whose pool5 has a window, the classifier is applied to maps of the
    size in training, that of the training crop. On larger test crops it slides, and its
    probabilities are averaged over locations, as in the paper's tests (Sec. 4.1). Under
    the others, and on crops of the training size, pool5 averages the whole map.

    Args:
        model: `C2D` or `I3D`, to logits. Its weights are shared.
        config: `VideoClassificationConfig`, for the crops and the type of labels.
        with_features: Return the features, too.
    """
    is_multilabel = config.validation_data.is_multilabel
    network, output = build_network(model, config)
    scores = _pooled if output == "logits" else _sliding
    if not with_features:
        return lambda clips: scores(network(clips, training=False), is_multilabel)
    features = _features(network)
    both = keras.Model(network.input, [network.output, features])

    def score(clips):
        output, pooled = both(clips, training=False)
        locations = list(range(1, len(pooled.shape) - 1))
        pooled = tf.reduce_mean(tf.cast(pooled, tf.float32), locations)
        return (*scores(output, is_multilabel), pooled)

    return score


def build_network(model, config):
    """The network of `build_scorer`, and what it gives.

    Returns:
        `(network, output)`: a Keras model from normalised clips to `"logits"` or, where
        the classifier slides, to `"probabilities"`.
    """
    test = config.validation_data
    is_larger = (
        test.protocol.whole_frame or test.crop_size > config.train_data.crop_size
    )
    if not is_larger or CONVENTIONS[config.model.convention].global_pool5:
        return model, "logits"
    activation = "sigmoid" if test.is_multilabel else "softmax"
    window = _training_window(model, config)
    return fully_convolutional(model, window, activation), "probabilities"


def _features(network):
    """Symbolic input of the classifier, `(batch, channels)` or at each location."""
    if "pool5_sliding" in [layer.name for layer in network.layers]:
        return network.get_layer("pool5_sliding").output
    return network.get_layer("pred").input


def with_constants(function, model) -> Callable:
    """`function`, with the present weights of `model` as constants of its graphs.

    TensorFlow fuses operations as with variables, except that it removes a bias that
    is all zeros, which prevents fusion with what follows; trained networks have none.

    Args:
        function: Function of tensors that calls `model`; to be traced.
        model: Keras model; it is not changed.
    """
    values = [np.asarray(variable.value) for variable in model.variables]

    def traced(*args):
        constants = [tf.constant(value) for value in values]
        pairs = zip(model.variables, constants, strict=True)
        with keras.StatelessScope(list(pairs)):
            return function(*args)

    return traced


def _pooled(logits, is_multilabel):
    logits = tf.cast(logits, tf.float32)
    return logits, tf.sigmoid(logits) if is_multilabel else tf.nn.softmax(logits)


def _sliding(probabilities, is_multilabel):
    """The logits are the inverse of softmax (or sigmoid) of the mean probabilities."""
    probabilities = tf.cast(probabilities, tf.float32)
    least = 1e-30  # keeps the logarithms finite
    logits = tf.math.log(tf.maximum(probabilities, least))
    if is_multilabel:
        logits -= tf.math.log(tf.maximum(1 - probabilities, least))
    return logits, probabilities


def _training_window(model, config):
    """(height, width) of the map that pool5 averages in training."""
    side = config.train_data.crop_size
    clip = keras.KerasTensor((1, config.clip.num_frames, side, side, 3))
    features = keras.Model(model.input, model.get_layer("res5").output)
    return tuple(features.compute_output_spec(clip).shape[2:4])
