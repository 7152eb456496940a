"""The 1x1x1 convolutions of a block: Dense layers over the last axis."""

import zlib

import keras
from keras import ops


def make_projection(block, name, input_channels, channels, use_bias, initializer=None):
    """A built Dense layer, with the options of `block`."""
    layer = keras.layers.Dense(
        channels,
        use_bias=use_bias,
        kernel_initializer=initializer or _clone_for(block.kernel_initializer, name),
        bias_initializer=_clone_for(block.bias_initializer, name),
        kernel_regularizer=block.kernel_regularizer,
        bias_regularizer=block.bias_regularizer,
        kernel_constraint=block.kernel_constraint,
        bias_constraint=block.bias_constraint,
        dtype=block.projection_dtypes.get(name, block.dtype_policy),
        name=name,
    )
    layer.build((None, None, input_channels))
    return layer


def _clone_for(initializer, name):
    """A copy of `initializer` that draws differently for each sublayer `name`.

    One seeded initialiser must not give theta, phi and g the same weights: an
    integer seed is offset by a hash of the name.
    """
    if not hasattr(initializer, "get_config"):  # a plain callable
        return initializer
    config = initializer.get_config()
    if isinstance(config.get("seed"), int):
        config["seed"] = (config["seed"] + zlib.crc32(name.encode())) % 2**31
    return type(initializer).from_config(config)


def embed(dense, x):
    """A 1x1x1 convolution of a map or of tokens."""
    *sizes, channels = ops.shape(x)
    y = dense(ops.reshape(x, (-1, channels)))
    return ops.reshape(y, (*sizes, y.shape[-1]))


def project(x, kernel):
    """A map or tokens `(..., C)` times `(C, d)`, as one product of two matrices."""
    *sizes, channels = ops.shape(x)
    y = ops.matmul(ops.reshape(x, (-1, channels)), kernel)
    return ops.reshape(y, (*sizes, y.shape[-1]))


def kernel_of(dense):
    """A Dense layer's kernel `(C, d)`, as floats even after `quantize`."""
    if dense.quantization_mode is None:
        return ops.convert_to_tensor(dense.kernel)
    identity = ops.eye(dense.input_spec.axes[-1], dtype=dense.compute_dtype)
    return dense(identity) - dense.bias if dense.use_bias else dense(identity)
