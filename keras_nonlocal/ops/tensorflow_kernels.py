"""TensorFlow kernels that are faster than keras.ops; imported on TensorFlow only."""

import functools
import math

import numpy as np
import tensorflow as tf

# === Softmax ===

UNITS = {"bfloat16": 2**-7, "float16": 2**-10}  # distance of 1 and the next number


@functools.cache
def softmax_sums_in_float32(dtype):
    """Whether the kernel of half precision is exact: as in float32, rounded once.

    oneDNN's is, in half of the time. Eigen's adds up in half precision, and for some
    processors oneDNN has none: both shows in a long row.
    """
    with tf.init_scope():
        logits = tf.cast(tf.linspace([0.0], [4.0], 4096, axis=1), dtype)
        try:
            weights = tf.cast(tf.nn.softmax(logits), tf.float32)
        except tf.errors.OpError:
            return False
        exact = tf.nn.softmax(tf.cast(logits, tf.float32))
        tolerance = UNITS[dtype] * exact + 1e-7
        return bool(tf.reduce_all(tf.abs(weights - exact) <= tolerance))


# === Convolution ===


def has_few_positions(x):
    """Whether the filter gradient of a convolution is faster as a matrix product."""
    if x.dtype != tf.bfloat16 or None in x.shape or len(x.shape) != 5:
        return False
    # oneDNN's takes 1.5 to 7 times as long in res4 and res5 of small batches.
    return math.prod(x.shape[:-1]) <= 4 * x.shape[-1]


@tf.custom_gradient
def conv3d_of_few_positions(x, kernel):
    """Convolution with stride 1 and padding "same"; kernels of odd extents."""
    strides, padding = [1] * 5, "SAME"

    def gradient(dy):
        dx = tf.raw_ops.Conv3DBackpropInputV2(
            input_sizes=x.shape,
            filter=kernel,
            out_backprop=dy,
            strides=strides,
            padding=padding,
        )
        return dx, _filter_gradient(x, dy, kernel.shape)

    return tf.nn.conv3d(x, kernel, strides, padding), gradient


def _filter_gradient(x, dy, shape):
    """dW = sum over positions of (the inputs under the kernel)^T dy."""
    *extents, channels, filters = shape
    padded = tf.pad(x, [[0, 0], *([n // 2] * 2 for n in extents), [0, 0]])
    taps = [
        tf.slice(padded, [0, *offset, 0], x.shape) for offset in np.ndindex(*extents)
    ]
    columns = tf.reshape(tf.concat(taps, axis=-1), [-1, len(taps) * channels])
    gradient = tf.matmul(columns, tf.reshape(dy, [-1, filters]), transpose_a=True)
    return tf.reshape(gradient, shape)


@functools.cache
def _lacks_grouped_gradients(dtype):
    """Whether convolutions of groups of channels have no gradients in half precision.

    On CPUs only oneDNN has them, in float16 and bfloat16 only for some processors.
    """
    if dtype not in (tf.bfloat16, tf.float16):
        return False
    with tf.init_scope():
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=[1, 3, 3, 4],
                filter=tf.zeros((3, 3, 2, 4), dtype),
                out_backprop=tf.zeros((1, 3, 3, 4), dtype),
                strides=[1] * 4,
                padding="SAME",
            )
        except tf.errors.OpError:
            return True
    return False


def grouped_conv2d(x, kernel, strides, padding):
    """Convolution of `(B, H, W, C)` by `(h, w, C / groups, filters)`.

    TensorFlow's own kernel. `keras.ops.conv` compiles grouped convolutions by XLA,
    which on CPUs takes more than 100 times as long.
    """
    if _lacks_grouped_gradients(x.dtype):
        y = grouped_conv2d(tf.cast(x, tf.float32), kernel, strides, padding)
        return tf.cast(y, x.dtype)
    kernel = tf.cast(tf.convert_to_tensor(kernel), x.dtype)
    return tf.nn.conv2d(x, kernel, list(strides), padding.upper())


def padded_conv2d(x, kernel, strides, pads):
    """Convolution of `x` with zeros around it, which are not kept for the gradient.

    Padding within the operation would be slower, and fails for groups of channels.
    """
    if kernel.shape[-2] != x.shape[-1] and _lacks_grouped_gradients(x.dtype):
        y = padded_conv2d(tf.cast(x, tf.float32), kernel, strides, pads)
        return tf.cast(y, x.dtype)
    kernel = tf.cast(tf.convert_to_tensor(kernel), x.dtype)
    options = {"strides": [1, *strides, 1], "padding": "VALID"}

    @tf.custom_gradient
    def convolved(x, kernel):
        def gradient(dy):
            with tf.control_dependencies([dy]):  # else it would be padded once for both
                padded = tf.pad(x, pads)
            dx = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(padded), filter=kernel, out_backprop=dy, **options
            )
            dw = tf.raw_ops.Conv2DBackpropFilter(
                input=padded, filter_sizes=kernel.shape, out_backprop=dy, **options
            )
            starts = [before for before, _ in pads]
            return tf.slice(dx, starts, tf.shape(x)), dw

        return tf.nn.conv2d(tf.pad(x, pads), kernel, **options), gradient

    return convolved(x, kernel)


# === Batch normalisation ===


def can_normalize(x, training):
    """Whether the fused kernel supports `x`."""
    # On GPUs its gradient without training is an error in deterministic mode.
    return (
        x.shape[-1] is not None
        and x.dtype in (tf.float32, tf.bfloat16, tf.float16)
        and (training or not _has_gpu())
    )


def normalize_by_batch(x, gamma, beta, epsilon):
    """See `batch_norm`. One kernel; keras.ops takes ten passes over x."""
    y, mean, variance = _fused(x, gamma, beta, epsilon)
    # The kernel gives the unbiased estimate, n / (n - 1) times the biased one.
    count = tf.size(x, tf.int64) // x.shape[-1]
    others = tf.cast(tf.maximum(count - 1, 1), tf.float32)
    return y, mean, variance * others / tf.cast(tf.maximum(count, 1), tf.float32)


def normalize(x, mean, variance, gamma, beta, epsilon):
    """See `batch_norm`."""
    return _fused(x, gamma, beta, epsilon, (mean, variance))[0]


def normalize_by_constants(x, mean, variance, gamma, beta, epsilon):
    """See `batch_norm`. The fused kernel's own gradient keeps `x`."""
    mean, variance = _in_float32(mean), _in_float32(variance)
    gamma, beta = (None if v is None else _in_float32(v) for v in (gamma, beta))
    scale = tf.math.rsqrt(variance + epsilon) * (1.0 if gamma is None else gamma)

    @tf.custom_gradient
    def normalized(x):
        def gradient(dy):
            return tf.cast(tf.cast(dy, tf.float32) * scale, dy.dtype)

        return normalize(x, mean, variance, gamma, beta, epsilon), gradient

    return normalized(x)


def _fused(x, gamma, beta, epsilon, statistics=None):
    channels = x.shape[-1]
    gamma = tf.ones(channels) if gamma is None else _in_float32(gamma)
    beta = tf.zeros(channels) if beta is None else _in_float32(beta)
    mean, variance = ([], []) if statistics is None else map(_in_float32, statistics)
    # Images in inference keep their shape: TensorFlow fuses it with the convolution.
    is_fusible = len(x.shape) == 4 and statistics is not None
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x if is_fusible else tf.reshape(x, _as_images(x)),
        scale=gamma,
        offset=beta,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        is_training=statistics is None,
    )
    return tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape), mean, variance


def _in_float32(vector):
    """The kernel's dtype, also under policies with weights in half precision."""
    return tf.cast(tf.convert_to_tensor(vector), tf.float32)


def _as_images(x):
    """A shape `(B, H, W, C)` for the same positions."""
    channels = x.shape[-1]
    if _has_gpu() and len(x.shape) > 2:  # cuDNN fails at a batch of 100,000
        return tf.stack([tf.shape(x)[0], -1, 1, channels])
    return [-1, 1, 1, channels]  # fastest on CPUs


def _has_gpu():
    return bool(tf.config.list_physical_devices("GPU"))
