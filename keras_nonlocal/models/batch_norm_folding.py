"""Networks for inference, with batch normalisation folded into convolutions."""

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
    it, and in a non-local block part of W_z. For inference only.

    Args:
        model: Functional `keras.Model`, such as `C2D` or `I3D`. It is not changed.
        dtype: Dtype of computations and weights, such as `"bfloat16"`. Layers whose
            outputs are vectors, such as the classifier, are in float32 at least.
            None: layers keep their policies.
        into: Result of an earlier call for `model`, to be given the weights that
            `model` has now, instead of building a new one.

    Returns:
        A `keras.Model` that takes the same inputs; layers keep their names.

    Raises:
        ValueError: No functional model, or a normalisation that cannot be folded;
            names the layer.

    Example:
    >>> model = C2D(14, 10, (4, 64, 64, 3), width=8)
    >>> folded = fold_batch_norm(model)
    >>> [len(network.weights) for network in (model, folded)]
    [87, 36]
    """
    if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
        raise ValueError(
            "fold_batch_norm needs a functional keras.Model, such as C2D or I3D. "
            f"Received: {model!r}."
        )
    folds = _find_folds(model)
    folded = _rebuilt(model, folds, dtype) if into is None else into
    for layer in model.layers:
        if layer.weights and not _is_normalization(layer):
            weights = _weights(layer, folds.get(layer.name))
            folded.get_layer(layer.name).set_weights(weights)
    return folded


def _rebuilt(model, folds, dtype):
    """The folded network, with its initial weights."""
    return keras.models.clone_model(
        model,
        clone_function=lambda layer: _clone(layer, layer.name in folds, dtype),
        call_function=_Caller(folds),
    )


# === Finding what to fold ===


def _find_folds(model):
    """Normalisations by the names of the layers that they are folded into."""
    folds = {}
    for layer in model.layers:
        if _is_normalization(layer):
            folds[_convolution_before(layer, model).name] = layer
        elif isinstance(layer, BaseNonLocal):
            if layer.norm is not None:
                folds[layer.name] = layer.norm
        elif any(weight.name == "moving_variance" for weight in layer.weights):
            raise _error(layer, "contains batch normalisation: fold it separately")
    return folds


def _is_normalization(layer):
    return isinstance(layer, keras.layers.BatchNormalization)


def _convolution_before(norm, model):
    """The layer whose outputs are normalised, and used nowhere else."""
    x = norm.input
    layer = x._keras_history.operation
    if not isinstance(layer, _CONVOLUTIONS):
        raise _error(norm, "does not follow a convolution or a Dense layer")
    if keras.activations.serialize(layer.activation) != "linear":
        raise _error(norm, f"follows the activation of {layer.name!r}")
    used = sum(_takes(other, x) for other in model.layers)
    if used > 1 or any(x is y for y in keras.tree.flatten(model.output)):
        raise _error(norm, f"is not alone in using the outputs of {layer.name!r}")
    is_channels_last = getattr(layer, "data_format", "channels_last") == "channels_last"
    if norm.axis not in (-1, len(x.shape) - 1) or not is_channels_last:
        raise _error(norm, "does not normalise the last axis")
    return layer


def _takes(layer, x):
    return any(x is y for y in keras.tree.flatten(getattr(layer, "input", None)))


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
    """`dtype`; for layers whose outputs are vectors, float32 at least."""
    has_map = any(len(x.shape) > 2 for x in keras.tree.flatten(layer.output))
    return dtype if has_map else keras.backend.result_type(dtype, "float32")


class _Caller:
    """Calls the new layers, except for normalisations."""

    def __init__(self, folds):
        self._once = {*folds, *(norm.name for norm in folds.values())}
        self._called = set()

    def __call__(self, layer, *args, **kwargs):
        if layer.name in self._once & self._called:
            raise _error(layer, "is used several times")
        self._called.add(layer.name)
        return args[0] if _is_normalization(layer) else layer(*args, **kwargs)


def _weights(layer, norm):
    """A layer's weights in order, with those of `norm` folded into its last kernel."""
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
