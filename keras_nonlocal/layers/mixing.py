"""From x, phi and g to W_z y, in the order that a call has been given.

Where the Dense layers theta and W_z are folded, their kernels are multiplied here,
with the same result as the layers called one after another.
"""

from keras import ops

from keras_nonlocal.ops import concatenation, dot_product, gaussian
from keras_nonlocal.ops.half_precision import at_least_float32


def project(x, kernel):
    """A map or tokens `(..., C)` times `(C, d)`, as one product of two matrices."""
    *sizes, channels = ops.shape(x)
    y = ops.matmul(ops.reshape(x, (-1, channels)), kernel)
    return ops.reshape(y, (*sizes, y.shape[-1]))


def embed(dense, x):
    """A 1x1x1 convolution of a map or of tokens."""
    *sizes, channels = ops.shape(x)
    y = dense(ops.reshape(x, (-1, channels)))
    return ops.reshape(y, (*sizes, y.shape[-1]))


def kernel_of(dense):
    """A Dense layer's kernel `(C, d)`, as floats even after `quantize`."""
    if dense.quantization_mode is None:
        return ops.convert_to_tensor(dense.kernel)
    identity = ops.eye(dense.input_spec.axes[-1], dtype=dense.compute_dtype)
    return dense(identity) - dense.bias if dense.use_bias else dense(identity)


def mix(block, x, phi, g, w_z, order):
    """y, or W_z y without its bias where `order.fold_w_z`.

    Args:
        block: The layer, for its mode and weights.
        x: What theta embeds: tokens `(G, N, C)`.
        phi: Embedded keys `(G, M, d)`. Keys as they are, `(G, M, C)`, in Gaussian
            mode, and where `block.splits_keys`.
        g: Values, `(G, M, d)`.
        w_z: Kernel, `(d, C)`.
        order: `Order`.

    Returns:
        `(G, N, d)`, or `(G, N, C)` where `order.fold_w_z`.
    """
    if order.algorithm == "linear":
        return _linear(block, x, phi, g, w_z, order)
    if order.fold_w_z:
        g = project(g, w_z)
    if block.mode == "concatenation":
        a, b = _split(block, x, phi)
        form = {"dense": concatenation.dense, "sorted": concatenation.sorted}
        return form[order.algorithm](a, b, g)
    theta, phi, bias = _embedded(block, x, phi, order)
    if block.mode == "dot_product":
        return dot_product.dense(theta, phi, g, bias)
    if order.algorithm == "chunked":
        return gaussian.chunked(theta, phi, g, block.scale)
    return gaussian.dense(theta, phi, g, block.scale, bias)


def _linear(block, x, phi, g, w_z, order):
    """theta (phi^T g / M) W_z, the small matrices first."""
    context = dot_product.context(phi, g)  # (G, d, d)
    if order.fold_w_z:
        context = project(context, w_z)  # (G, d, C)
    if not order.fold_theta:
        return ops.matmul(embed(block.theta, x), context)
    y = ops.matmul(x, ops.matmul(kernel_of(block.theta), context))
    return y + ops.matmul(block.theta.bias[None], context) if block.use_bias else y


def _embedded(block, x, phi, order):
    """Queries, keys and a bias per key; theta . phi is their products' sum."""
    if block.mode == "gaussian":
        return at_least_float32(x), at_least_float32(phi), None
    if not order.fold_theta:
        return embed(block.theta, x), phi, None
    # (x W + b) . phi = x . (W phi) + b . phi
    folded = project(phi, ops.swapaxes(kernel_of(block.theta), 0, 1))  # (G, M, C)
    if not block.use_bias:
        return x, folded, None
    return x, folded, ops.swapaxes(project(phi, block.theta.bias[:, None]), 1, 2)


def _split(block, x, phi):
    """a_i = w_theta . theta_i `(G, N)` and b_j = w_phi . phi_j `(G, M)`."""
    kernel = kernel_of(block.concat_projection)
    width = kernel.shape[0] // 2
    a = _through(block.theta, kernel[:width], x)
    if block.splits_keys:
        return a, _through(block.phi, kernel[width:], phi)
    return a, project(phi, kernel[width:])[..., 0]


def _through(dense, vector, x):
    """vector . dense(x), of which dense(x) is never formed: `(G, N)`."""
    scores = project(x, ops.matmul(kernel_of(dense), vector))[..., 0]
    return scores + ops.matmul(dense.bias, vector) if dense.use_bias else scores
