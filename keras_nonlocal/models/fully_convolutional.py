"""Testing on clips larger than the training crop, as in the paper."""

import keras
from keras import layers, ops

from keras_nonlocal.layers import WindowMean
from keras_nonlocal.validation import check_positive_int, invalid_argument


def fully_convolutional(model, window=None, activation="softmax"):
    """Slides the classifier of a trained C2D or I3D over larger clips.

    p = mean_l softmax(W a_l + b), where a_l is the mean of the features of res5
    over all frames and over the `window` at location l. Clips of the training crop's
    size have one location, and the probabilities of the model itself.

    Args:
        model: `C2D` or `I3D` with its top. Weights are shared, not copied.
        window: `(height, width)` of the window in positions of res5: the size of
            that map for a training crop (7x7 for 224x224). None: that of `model`'s
            own input, if it is static.
        activation: `"softmax"`, or `"sigmoid"` for several labels.

    Returns:
        `keras.Model`: clips `(B, T, H, W, C)` to probabilities `(B, num_classes)`.
        T, H and W are free, as long as the window fits on the map of res5.

    Raises:
        ValueError: A missing `window`, or not two positive ints; a model without its
            top; at the call, a clip too small for the window.

    Example:
    >>> model = C2D(14, 10, (4, 64, 64, 3), width=8)
    >>> tiled = fully_convolutional(model)
    >>> tuple(tiled(np.zeros((1, 4, 96, 128, 3))).shape)
    (1, 10)
    """
    classifier = _classifier(model)
    window = _own_window(model) if window is None else _checked(window)
    clips, features = _free_size_features(model)
    dtype = classifier.dtype_policy
    x = WindowMean((1, *window), dtype=dtype, name="pool5_sliding")(features)
    x = classifier(ops.mean(x, axis=1))  # (B, rows of windows, columns, classes)
    x = layers.Activation(activation, dtype=dtype, name="scores")(x)
    return keras.Model(clips, ops.mean(x, axis=(1, 2)), name=f"{model.name}_sliding")


def _classifier(model):
    if "pred" not in [layer.name for layer in model.layers]:
        raise ValueError(
            f"fully_convolutional needs a classifier, and model {model.name!r} has no "
            "layer 'pred'. Build it with include_top=True."
        )
    return model.get_layer("pred")


def _own_window(model):
    window = tuple(model.get_layer("res5").output.shape[2:4])
    if None in window:
        raise ValueError(
            f"fully_convolutional needs `window`: the input of model {model.name!r} "
            f"has no static size, {model.input_shape}. Pass the size of res5's map for "
            "a training crop: (7, 7) for 224x224."
        )
    return window


def _checked(window):
    if not isinstance(window, (tuple, list)) or len(window) != 2:
        owner = "fully_convolutional"
        raise invalid_argument("window", window, "(height, width)", owner=owner)
    for side in window:
        check_positive_int("window", side, owner="fully_convolutional")
    return tuple(window)


def _free_size_features(model):
    """The same layers up to res5, on an input whose T, H and W are free."""
    clips = keras.Input((None, None, None, model.input_shape[-1]), name="clips")
    features = keras.Model(model.input, model.get_layer("res5").output)
    shared = keras.models.clone_model(
        features, input_tensors=clips, clone_function=lambda layer: layer
    )
    return clips, shared.output
