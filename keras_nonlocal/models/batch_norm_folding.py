"""Networks without batch normalisation, for inference."""

import keras
import numpy as np
from keras import ops

from keras_nonlocal.layers import BaseNonLocal

_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Dense,
)


def fold_batch_norm(model, dtype=None, into=None):
    """The same function as `model` in inference, without batch normalisation.

    BN(W x + b) = (s W) x + (s b + t), with s = gamma / sqrt(variance + epsilon) and
    t = beta - s mean: every normalisation becomes part of the convolution before
    it, and in a non-local block part of W_z. For inference alone: in training
    nothing is normalised any more.

    Args:
        model: Functional `keras.Model`, such as `C2D` or `I3D`. It stays as it is.
        dtype: Such as `"bfloat16"`: what layers compute in, and keep their weights
            in. Those that give vectors, such as the classifier, do so in float32 at
            least. None: layers keep their own policies.
        into: What an earlier call made of `model`, to take the weights that `model`
            has now, instead of a new one.

    Returns:
        A `keras.Model` that takes the same inputs; layers keep their names.

    Raises:
        ValueError: No functional model, or a normalisation that does not follow a
            convolution of its own; names the layer.

    Example:
    >>> model = C2D(14, 10, (4, 64, 64, 3), width=8)
    >>> folded = fold_batch_norm(model)
    >>> [len(network.weights) for network in (model, folded)]
    [87, 36]
    """
    folds = _find_folds(_checked(model))
    folded = _rebuilt(model, folds, dtype) if into is None else into
    for layer in model.layers:
        if layer.weights and not _is_normalization(layer):
            weights = _weights(layer, folds.get(layer.name))
            folded.get_layer(layer.name).set_weights(weights)
    return folded


def _rebuilt(model, folds, dtype):
    """The folded network, its weights still to come."""
    return keras.models.clone_model(
        model,
        clone_function=lambda layer: _clone(layer, layer.name in folds, dtype),
        call_function=_Caller(folds),
    )


# === What is folded into what ===


def _checked(model):
    if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
        raise ValueError(
            "fold_batch_norm needs a functional keras.Model, such as C2D or I3D. "
            f"Received: {model!r}."
        )
    return model


def _find_folds(model):
    """Normalisations by the names of the layers that they become part of."""
    folds = {}
    for layer in model.layers:
        if _is_normalization(layer):
            folds[_convolution_before(layer, model).name] = layer
        elif isinstance(layer, BaseNonLocal):
            if layer.norm is not None:
                folds[layer.name] = layer.norm
        elif any(weight.name == "moving_variance" for weight in layer.weights):
            raise _error(layer, "has batch normalisation within: fold it by itself")
    return folds


def _is_normalization(layer):
    return isinstance(layer, keras.layers.BatchNormalization)


def _convolution_before(norm, model):
    """The layer whose outputs are normalised, and used nowhere else."""
    x = norm.input
    before = [layer for layer in model.layers if _gives(layer, x)]
    if not before or not isinstance(before[0], _CONVOLUTIONS):
        raise _error(norm, "does not follow a convolution or a Dense layer")
    (layer,) = before
    if keras.activations.serialize(layer.activation) != "linear":
        raise _error(norm, f"follows the activation of {layer.name!r}")
    used = sum(_takes(other, x) for other in model.layers)
    if used > 1 or any(x is y for y in keras.tree.flatten(model.output)):
        raise _error(norm, f"is not alone in using the outputs of {layer.name!r}")
    if norm.axis not in (-1, len(x.shape) - 1) or not _is_channels_last(layer):
        raise _error(norm, "does not normalise the last axis")
    return layer


def _gives(layer, x):
    return hasattr(layer, "output") and layer.output is x


def _takes(layer, x):
    return any(x is y for y in keras.tree.flatten(getattr(layer, "input", None)))


def _is_channels_last(layer):
    return getattr(layer, "data_format", "channels_last") == "channels_last"


def _error(layer, reason):
    return ValueError(
        f"fold_batch_norm cannot fold layer {layer.name!r} ({type(layer).__name__}): "
        f"it {reason}."
    )


# === The new layers ===


def _clone(layer, is_folded, dtype):
    config = layer.get_config()
    if dtype is not None and "dtype" in config:  # plain operations have none
        config["dtype"] = _dtype_of(layer, dtype)
    if is_folded and isinstance(layer, BaseNonLocal):
        config |= {"normalization": None, "normalization_options": None}
        config |= {"use_output_bias": True}
    elif is_folded:
        config |= {"use_bias": True}
    return type(layer).from_config(config)


def _dtype_of(layer, dtype):
    """`dtype`, or where no map is left any more, at least float32."""
    has_map = any(len(x.shape) > 2 for x in keras.tree.flatten(layer.output))
    return dtype if has_map else keras.backend.result_type(dtype, "float32")


class _Caller:
    """Calls the new layers; normalisations are passed by."""

    def __init__(self, folds):
        self._once = {*folds, *(norm.name for norm in folds.values())}
        self._called = set()

    def __call__(self, layer, *args, **kwargs):
        if layer.name in self._once & self._called:
            raise _error(layer, "is used several times")
        self._called.add(layer.name)
        return args[0] if _is_normalization(layer) else layer(*args, **kwargs)


def _weights(layer, norm):
    """A layer's weights in order, with those of `norm` in its last kernel."""
    if norm is None:
        return layer.get_weights()
    last = layer.w_z if isinstance(layer, BaseNonLocal) else layer
    own = [id(weight) for weight in last.weights]
    others = [weight for weight in layer.weights if id(weight) not in own]
    rest = [x for x in others if id(x) not in map(id, norm.weights)]
    return [*map(ops.convert_to_numpy, rest), *_fold(last, norm)]


def _fold(layer, norm):
    """Kernel and bias of `layer` followed by `norm`."""
    scale, offset = _scale_and_offset(norm)
    kernel = _float64(layer.kernel)
    bias = _float64(layer.bias) if layer.use_bias else 0.0
    return kernel * scale, bias * scale + offset


def _scale_and_offset(norm):
    """s and t of `fold_batch_norm`, `(channels,)`."""
    scale = 1 / np.sqrt(_float64(norm.moving_variance) + norm.epsilon)
    scale = scale * _float64(norm.gamma) if norm.scale else scale
    offset = -scale * _float64(norm.moving_mean)
    return scale, offset + _float64(norm.beta) if norm.center else offset


def _float64(weight):
    return ops.convert_to_numpy(weight).astype("float64")
