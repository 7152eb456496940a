"""From x, phi and g to W_z y, in a given contraction order.

The pairwise functions are those of `ops.non_local`. Where theta and W_z are folded,
their kernels are multiplied here, with the same result as the layers called one after
another.
"""

from keras import ops

from keras_nonlocal.layers.projections import embed, kernel_of, project
from keras_nonlocal.ops.pairwise import PAIRWISE


def mix(block, x, phi, g, w_z, order):
    """y, or W_z y without its bias where `order.fold_w_z`.

    Args:
        block: The layer, for its mode and weights.
        x: What theta embeds: tokens `(G, N, C)`.
        phi: Embedded keys `(G, M, d)`. Keys as they are, `(G, M, C)`, in Gaussian
            mode, and where `block.splits_keys`.
        g: Values, `(G, M, d)`.
        w_z: Kernel, `(d, C)`.
        order: `ContractionOrder`.

    Returns:
        `(G, N, d)`, or `(G, N, C)` where `order.fold_w_z`.
    """
    if order.algorithm == "linear":
        return _linear(block, *_operands(block, x, phi, order), g, w_z, order)
    g = project(g, w_z) if order.fold_w_z else g
    compute = PAIRWISE[block.mode].forms[order.algorithm].compute
    queries, keys = _operands(block, x, phi, order)
    if not order.fold_theta:
        return compute(queries, keys, g)
    # (x W + b) . phi = x . (W phi) + b . phi
    folded = project(keys, ops.swapaxes(kernel_of(block.theta), 0, 1))  # (G, M, C)
    bias = None
    if block.use_bias:
        bias = ops.swapaxes(project(keys, block.theta.bias[:, None]), 1, 2)
    return compute(queries, folded, g, bias)


def _operands(block, x, phi, order):
    """Queries and keys of the pairwise function; x itself where theta is folded."""
    if block.concat_projection is not None:
        return _split(block, x, phi)
    embeds = block.theta is not None and not order.fold_theta
    theta = embed(block.theta, x) if embeds else x
    return PAIRWISE[block.mode].operands(theta, phi, block.scale)


def _linear(block, queries, keys, g, w_z, order):
    """theta (phi^T g / M) W_z, the small matrices first."""
    context = PAIRWISE[block.mode].context(keys, g)  # (G, d, d)
    if order.fold_w_z:
        context = project(context, w_z)  # (G, d, C)
    if not order.fold_theta:
        return ops.matmul(queries, context)
    y = ops.matmul(queries, ops.matmul(kernel_of(block.theta), context))
    return y + ops.matmul(block.theta.bias[None], context) if block.use_bias else y


def _split(block, x, phi):
    """a_i = w_theta . theta_i `(G, N)` and b_j = w_phi . phi_j `(G, M)`.

    w_f is multiplied by the kernels of theta and phi first.
    """
    kernel = kernel_of(block.concat_projection)
    width = kernel.shape[0] // 2
    a = _embedded_score(block.theta, kernel[:width], x)
    if block.splits_keys:
        return a, _embedded_score(block.phi, kernel[width:], phi)
    return a, project(phi, kernel[width:])[..., 0]


def _embedded_score(dense, vector, x):
    """vector . dense(x), where dense(x) is never formed: `(G, N)`."""
    scores = project(x, ops.matmul(kernel_of(dense), vector))[..., 0]
    return scores + ops.matmul(dense.bias, vector) if dense.use_bias else scores
