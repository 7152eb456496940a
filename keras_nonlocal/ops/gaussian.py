"""f = exp(scale theta_i . phi_j), C = sum_j f (Eqs. 2 and 3): a softmax over keys."""

from keras import backend, ops

from keras_nonlocal.ops import chunks
from keras_nonlocal.ops.backends import refuse_second_order
from keras_nonlocal.ops.half_precision import (
    accumulation_dtype,
    at_least_float32,
    softmax,
)


def operands(theta, phi, scale=None, concat_kernel=None):
    """Queries, and keys times `scale`; the functions below take both."""
    return theta, phi if scale is None else phi * scale


def raw_operands(theta, phi, scale=None, concat_kernel=None):
    """The same for features that are not embedded: in float32 at least.

    They are neither normalised nor scaled: their products reach thousands, which half
    precision rounds to whole units of the exponent.
    """
    return operands(at_least_float32(theta), at_least_float32(phi), scale)


def scores(theta, phi, bias=None):
    """softmax_j(theta_i . phi_j + bias_j): `(B, N, M)`, in theta's dtype.

    `bias` is None or `(B, 1, M)`.
    """
    logits = ops.matmul(theta, ops.swapaxes(phi, 1, 2))
    logits = logits if bias is None else logits + bias
    if logits.shape[-1] == 1:  # ops.softmax warns of a single key
        return ops.exp(logits - logits)  # 1, with a gradient of 0
    return softmax(logits)


def dense(theta, phi, g, bias=None):
    """The softmax of all pairs, times g."""
    return ops.matmul(ops.cast(scores(theta, phi, bias), g.dtype), g)


def chunked(theta, phi, g):
    """The same for a slice of the queries at a time, forward and backward.

    Nothing of the map is kept: the backward pass computes the weights of a slice
    again, so that memory is O(slice * M) in place of O(N * M).
    """
    if backend.backend() == "torch" and theta.shape[-1] == g.shape[-1]:
        return _fused(theta, phi, g)
    return _chunked(theta, phi, g)


def _fused(theta, phi, g):
    """The backend's kernel, which keeps no map either."""
    heads = (t[:, :, None] for t in (theta, phi, ops.cast(g, theta.dtype)))
    return ops.cast(ops.dot_product_attention(*heads, scale=1.0)[:, :, 0], g.dtype)


@ops.custom_gradient
def _chunked(theta, phi, g):
    batch, num_queries, _ = ops.shape(theta)
    rows = chunks.chunk_rows(batch, num_queries, ops.shape(phi)[1])
    dtype = accumulation_dtype(theta.dtype)

    def forward(sums, theta):
        return sums, (dense(theta, phi, g),)

    _, (y,) = chunks.loop(forward, (), [chunks.split(theta, rows)])
    y = chunks.join(y, num_queries)

    def gradient(*args, upstream=None):
        refuse_second_order()
        dy = args[0] if upstream is None else upstream

        def backward(sums, theta, dy, y):
            # The softmax's gradient: ds_ij = p_ij (dy_i . g_j - dy_i . y_i).
            means = ops.sum(at_least_float32(dy * y), axis=-1, keepdims=True)
            weights = at_least_float32(scores(theta, phi))
            dweights = at_least_float32(ops.matmul(dy, ops.swapaxes(g, 1, 2)))
            dlogits = ops.cast(weights * (dweights - means), theta.dtype)
            dphi = ops.matmul(ops.swapaxes(dlogits, 1, 2), theta)
            dg = ops.matmul(ops.swapaxes(ops.cast(weights, dy.dtype), 1, 2), dy)
            sums = (sums[0] + ops.cast(dphi, dtype), sums[1] + ops.cast(dg, dtype))
            return sums, (ops.matmul(dlogits, phi),)

        slices = [chunks.split(t, rows) for t in (theta, dy, y)]
        zeros = tuple(ops.zeros_like(t, dtype=dtype) for t in (phi, g))
        (dphi, dg), (dtheta,) = chunks.loop(backward, zeros, slices)
        dtheta = chunks.join(dtheta, num_queries)
        return dtheta, ops.cast(dphi, phi.dtype), ops.cast(dg, g.dtype)

    return y, gradient
