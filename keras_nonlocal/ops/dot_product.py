"""f = theta_i . phi_j, C = M (Eq. 4): a product of three matrices, in either order."""

from keras import backend, ops


def operands(theta, phi, scale=None, concat_kernel=None):
    """Queries and keys as they are."""
    return theta, phi


def scores(theta, phi, bias=None):
    """(theta_i . phi_j + bias_j) / M: `(B, N, M)`.

    `bias` is None or `(B, 1, M)`.
    """
    # 1/M split in two keeps float16 sums from overflowing before the division.
    factor = _num_keys(phi) ** -0.5
    f = ops.matmul(theta * factor, ops.swapaxes(phi, 1, 2))
    return (f if bias is None else f + bias * factor) * factor


def dense(theta, phi, g, bias=None):
    """(theta phi^T) g / M through the map of all pairs."""
    return ops.matmul(scores(theta, phi, bias), g)


def linear(theta, phi, g):
    """theta (phi^T g / M): no map, and cost linear in N and M."""
    return ops.matmul(theta, context(phi, g))


def context(phi, g):
    """phi^T g / M: `(B, d, d_g)`, all that queries need of keys and values."""
    if backend.standardize_dtype(g.dtype) == "float16":  # sums overflow
        factor = _num_keys(phi) ** -0.5
        return ops.matmul(ops.swapaxes(phi * factor, 1, 2), g * factor)
    return ops.matmul(ops.swapaxes(phi, 1, 2), g) / _num_keys(phi)


def _num_keys(phi):
    return ops.cast(ops.shape(phi)[1], phi.dtype)
