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


def build_scorer(model, config) -> Callable:
    """A function from normalised clips to `(logits, probabilities)`, float32.

    Under conventions whose pool5 has a window, the classifier is applied to maps of the
    size in training, that of the training crop. On larger test crops it slides, and its
    probabilities are averaged over locations, as in the paper's tests (Sec. 4.1). Under
    the others, and on crops of the training size, pool5 averages the whole map.

    Args:
        model: `C2D` or `I3D`, to logits. Its weights are shared.
        config: `VideoClassificationConfig`, for the crops and the type of labels.
    """
    test, is_multilabel = config.validation_data, config.validation_data.is_multilabel
    is_larger = (
        test.protocol.whole_frame or test.crop_size > config.train_data.crop_size
    )
    if not is_larger or CONVENTIONS[config.model.convention].global_pool5:
        return lambda clips: _pooled(model, clips, is_multilabel)
    activation = "sigmoid" if is_multilabel else "softmax"
    network = fully_convolutional(model, _training_window(model, config), activation)
    return lambda clips: _sliding(network, clips, is_multilabel)


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


def _pooled(model, clips, is_multilabel):
    logits = tf.cast(model(clips, training=False), tf.float32)
    return logits, tf.sigmoid(logits) if is_multilabel else tf.nn.softmax(logits)


def _sliding(network, clips, is_multilabel):
    """The logits are the inverse of softmax (or sigmoid) of the mean probabilities."""
    probabilities = tf.cast(network(clips, training=False), tf.float32)
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
