"""f = ReLU(w_f . [theta_i, phi_j]) = ReLU(a_i + b_j), C = M (Eq. 5)."""

from keras import ops

from keras_nonlocal.ops.half_precision import at_least_float32
from keras_nonlocal.ops.sorted_relu import sorted_relu


def operands(theta, phi, scale=None, concat_kernel=None):
    """a_i = w_theta . theta_i `(B, N)` and b_j = w_phi . phi_j `(B, M)`.

    The (N, M, 2 d) pairs are never built.
    """
    kernel = ops.cast(concat_kernel, theta.dtype)
    channels = theta.shape[-1]
    a = ops.matmul(theta, kernel[:channels])
    b = ops.matmul(phi, kernel[channels:])
    return a[..., 0], b[..., 0]


def scores(a, b):
    """ReLU(a_i + b_j) / M: `(B, N, M)`."""
    # Not a[:, :, None], which LiteRT has for known sizes only.
    pairs = ops.expand_dims(a, 2) + ops.expand_dims(b, 1)
    return ops.relu(pairs) / _num_keys(b)


def dense(a, b, g):
    """sum_j ReLU(a_i + b_j) g_j / M through the map of all pairs."""
    return ops.matmul(scores(a, b), g)


def sorted(a, b, g):
    """The same with sorted keys and running sums: see `sorted_relu`."""
    values = at_least_float32(g)
    return ops.cast(sorted_relu(a, b, values / _num_keys(values)), g.dtype)


def _num_keys(t):
    return ops.cast(ops.shape(t)[1], t.dtype)
