"""What TensorFlow does faster by kernels of its own than by keras.ops.

Imported on that backend alone.
"""

import tensorflow as tf


def can_normalize(x, training):
    """Whether the fused kernel is there, and does not fail."""
    # On GPUs its gradient without training is refused where determinism is asked for.
    return x.dtype in (tf.float32, tf.bfloat16, tf.float16) and (
        training or not _has_gpu()
    )


def normalize_by_batch(x, gamma, beta, epsilon):
    """See `batch_norm`. One kernel, where keras.ops takes ten passes over x."""
    y, mean, variance = _fused(x, gamma, beta, epsilon)
    # The kernel gives the unbiased estimate, n / (n - 1) times the biased one.
    count = tf.size(x, tf.int64) // x.shape[-1]
    others = tf.cast(tf.maximum(count - 1, 1), tf.float32)
    return y, mean, variance * others / tf.cast(tf.maximum(count, 1), tf.float32)


def normalize(x, mean, variance, gamma, beta, epsilon):
    """See `batch_norm`."""
    return _fused(x, gamma, beta, epsilon, (mean, variance))[0]


def _fused(x, gamma, beta, epsilon, statistics=None):
    channels = x.shape[-1]
    gamma = tf.ones(channels) if gamma is None else tf.convert_to_tensor(gamma)
    beta = tf.zeros(channels) if beta is None else tf.convert_to_tensor(beta)
    mean, variance = ([], []) if statistics is None else statistics
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=tf.reshape(x, _as_images(x)),
        scale=gamma,
        offset=beta,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        is_training=statistics is None,
    )
    return tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape), mean, variance


def _as_images(x):
    """A shape `(B, H, W, C)` for the same positions."""
    channels = x.shape[-1]
    if _has_gpu() and len(x.shape) > 2:  # cuDNN takes no batch of 100,000
        return tf.stack([tf.shape(x)[0], -1, 1, channels])
    return [-1, 1, 1, channels]  # the fastest on CPUs


def _has_gpu():
    return bool(tf.config.list_physical_devices("GPU"))
