"""Batch normalisation over all axes but the last, computed in float32."""

from keras import ops

from keras_nonlocal.ops.backends import backend_kernels
from keras_nonlocal.ops.half_precision import at_least_float32


def normalize_by_batch(x, gamma, beta, epsilon):
    """gamma (x - mean) / sqrt(variance + epsilon) + beta, by the batch's statistics.

    The variance is computed in two passes, except in TensorFlow's fused kernel under
    XLA (`jit_compile=True`): from the mean of squares, which loses digits for channels
    with a mean of more than 100 standard deviations.

    Args:
        x: `(..., C)`.
        gamma, beta: `(C,)`, or None for 1 and 0.
        epsilon: Added to the variance.

    Returns:
        `(y, mean, variance)`: y in x's dtype; mean and the biased variance `(C,)`
        in float32 at least.

    Example:
    >>> y, mean, variance = normalize_by_batch(np.array([[1.0], [3.0]]), None, None, 0)
    >>> float(mean[0]), float(variance[0])
    (2.0, 1.0)
    """
    kernels = backend_kernels()
    if kernels and kernels.can_normalize(x, training=True):
        return kernels.normalize_by_batch(x, gamma, beta, epsilon)
    wide = at_least_float32(ops.convert_to_tensor(x))
    axes = list(range(len(wide.shape) - 1))
    mean = ops.mean(wide, axes)
    # ops.moments of JAX uses the mean of squares, and loses digits to a large mean.
    variance = ops.mean(ops.square(wide - mean), axes)
    y = _normalize(wide, mean, variance, gamma, beta, epsilon, x.dtype)
    return y, mean, variance


def normalize(x, mean, variance, gamma, beta, epsilon):
    """The same by a given mean and variance `(C,)`; returns y alone."""
    kernels = backend_kernels()
    if kernels and kernels.can_normalize(x, training=False):
        return kernels.normalize(x, mean, variance, gamma, beta, epsilon)
    wide = at_least_float32(ops.convert_to_tensor(x))
    return _normalize(wide, mean, variance, gamma, beta, epsilon, x.dtype)


def normalize_by_constants(x, mean, variance, gamma, beta, epsilon):
    """`normalize` with a gradient in `x` alone, which needs no map from before."""
    kernels = backend_kernels()
    if kernels and kernels.can_normalize(x, training=False):
        vectors = mean, variance, gamma, beta
        return kernels.normalize_by_constants(x, *vectors, epsilon)
    return normalize(x, mean, variance, gamma, beta, epsilon)


def _normalize(wide, mean, variance, gamma, beta, epsilon, dtype):
    vectors = (
        None if vector is None else ops.cast(vector, wide.dtype)
        for vector in (mean, variance, beta, gamma)
    )
    mean, variance, offset, scale = vectors
    y = ops.batch_normalization(wide, mean, variance, -1, offset, scale, epsilon)
    return ops.cast(y, dtype)
