"""The paper's equations in float64 NumPy loops: the reference for every form."""

import numpy as np


def non_local(theta, phi, g, mode, scale=1.0, concat_kernel=None):
    """Eq. 1, one query and one key at a time: `(B, N, d_g)`."""
    scores = attention_scores(theta, phi, mode, scale, concat_kernel)
    y = np.zeros((*theta.shape[:2], g.shape[-1]))
    for b, i, j in np.ndindex(scores.shape):
        y[b, i] += scores[b, i, j] * g[b, j]
    return y


def attention_scores(theta, phi, mode, scale=1.0, concat_kernel=None):
    """f(theta_i, phi_j) / C(x): `(B, N, M)`."""
    batch, num_queries, _ = theta.shape
    num_keys = phi.shape[1]
    f = np.zeros((batch, num_queries, num_keys))
    for b, i, j in np.ndindex(f.shape):
        f[b, i, j] = _pairwise(theta[b, i], phi[b, j], mode, scale, concat_kernel)
    if "gaussian" not in mode:
        return f / num_keys  # C = M
    for b, i in np.ndindex(
        batch, num_queries
    ):  # C = sum_j f; subtracting the maximum avoids overflow
        row = np.exp(f[b, i] - f[b, i].max())
        f[b, i] = row / row.sum()
    return f


def _pairwise(theta_i, phi_j, mode, scale, concat_kernel):
    if mode == "concatenation":  # Eq. 5
        return max(0.0, float(np.concatenate([theta_i, phi_j]) @ concat_kernel[:, 0]))
    dot = float(theta_i @ phi_j)
    return scale * dot if "gaussian" in mode else dot  # log f of Eqs. 2-3; Eq. 4


def max_pool(x):
    """Max over 2 in every spatial axis of channels-last `x`, never over frames."""
    axes = (1,) if x.ndim == 3 else (x.ndim - 3, x.ndim - 2)
    for axis in axes:
        size = x.shape[axis] // 2
        pairs = [np.take(x, 2 * np.arange(size) + k, axis) for k in (0, 1)]
        x = np.maximum(*pairs)
    return x


def block(
    x,
    weights,
    mode,
    sub_sample=True,
    pool_position="before",
    use_scale=True,
    normalization="batch",
    scope="spacetime",
    group_size=None,
    training=False,
    epsilon=1e-5,
):
    """The whole block, Eq. 6, on channels-last float64 `x`.

    `weights` maps paths such as `theta/kernel` to arrays; a missing bias is 0.
    """

    def embed(name, t):
        return t @ weights[f"{name}/kernel"] + weights.get(f"{name}/bias", 0.0)

    def phi_of(t):
        return t if mode == "gaussian" else embed("phi", t)

    pool = max_pool if sub_sample and scope != "time" else (lambda t: t)
    theta = x if mode == "gaussian" else embed("theta", x)
    if pool_position == "before":
        phi, g = phi_of(pool(x)), embed("g", pool(x))
    else:
        phi, g = pool(phi_of(x)), pool(embed("g", x))
    scale = 1.0
    if mode == "embedded_gaussian" and use_scale:
        scale = theta.shape[-1] ** -0.5
    kernel = weights.get("concat_projection/kernel")

    y = np.zeros((*x.shape[:-1], g.shape[-1]))
    for queries, keys in _groups(x.shape, phi.shape, scope, group_size):
        y[queries] = _mix(theta[queries], phi[keys], g[keys], mode, scale, kernel)
    z = embed("w_z", y)
    if normalization == "batch":
        z = _batch_norm(z, weights, training, epsilon)
    return z + x


def _mix(theta, phi, g, mode, scale, kernel):
    def tokens(t):
        return t.reshape(t.shape[0], -1, t.shape[-1])

    y = non_local(tokens(theta), tokens(phi), tokens(g), mode, scale, kernel)
    return y.reshape(*theta.shape[:-1], g.shape[-1])


def _groups(query_shape, key_shape, scope, group_size):
    """Index pairs: these queries attend to these keys."""
    if scope == "spacetime" and group_size is None:
        yield (slice(None),), (slice(None),)
        return
    frames = query_shape[1]
    size = 1 if scope == "space" else group_size or frames
    for start in range(0, frames, size):
        time = slice(start, start + size)
        if scope != "time":
            yield (slice(None), time), (slice(None), time)
            continue
        for row, column in np.ndindex(query_shape[2:4]):
            place = (slice(None), time, row, column)
            yield place, place


def _batch_norm(z, weights, training, epsilon):
    axes = tuple(range(z.ndim - 1))
    mean, variance = weights["norm/moving_mean"], weights["norm/moving_variance"]
    if training:
        mean, variance = z.mean(axes), z.var(axes)
    unit = (z - mean) / np.sqrt(variance + epsilon)
    return unit * weights["norm/gamma"] + weights["norm/beta"]
