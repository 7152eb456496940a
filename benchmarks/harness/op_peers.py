"""The non-local operation of other implementations, from the published formulas.

Each takes theta (B, N, d), phi, g (B, M, d) and, for the concatenation, w_f
(2 d, 1), and returns y (B, N, d). phi is (B, d, M) for forms that
receive it in that layout from a 1x1x1 convolution (`KEYS_LAST`).
"""

from harness import machine

SCALED = "embedded_gaussian"


def published(mode, theta, phi, g, kernel=None):
    """PyTorch: the whole map; the concatenation forms all pairs, (B, 2d, N, M)."""
    import torch

    if mode == "concatenation":
        num_queries, num_keys = theta.shape[1], phi.shape[2]
        queries = theta.transpose(1, 2).unsqueeze(3)  # (B, d, N, 1)
        keys = phi.unsqueeze(2)  # (B, d, 1, M)
        pairs = torch.cat(
            [queries.repeat(1, 1, 1, num_keys), keys.repeat(1, 1, num_queries, 1)],
            dim=1,
        )
        f = torch.nn.functional.conv2d(pairs, kernel.reshape(1, -1, 1, 1))
        return torch.relu(f).squeeze(1) / num_keys @ g
    f = theta @ phi  # (B, N, M)
    if mode == "dot_product":
        return f / f.shape[-1] @ g
    if mode == SCALED:
        f = f * theta.shape[-1] ** -0.5
    return torch.softmax(f, dim=-1) @ g


def broadcast(mode, theta, phi, g, kernel):
    """PyTorch: the concatenation's map as relu(a_i + b_j), without the pairs."""
    import torch

    channels = theta.shape[-1]
    a = theta @ kernel[:channels]  # (B, N, 1)
    b = kernel[channels:].T @ phi  # (B, 1, M)
    return torch.relu(a + b) / phi.shape[-1] @ g


def scaled_dot_product_attention(mode, theta, phi, g):
    """PyTorch's fused kernel."""
    import torch

    scale = None if mode == SCALED else 1.0
    query, key, value = (t.unsqueeze(1) for t in (theta, phi, g))  # one head
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(query, key, value, scale=scale).squeeze(1)


def naive_keras(mode, theta, phi, g, kernel=None):
    """keras.ops: the whole map, line by line."""
    from keras import ops

    channels = theta.shape[-1]
    if mode == "concatenation":
        a = ops.matmul(theta, kernel[:channels])  # (B, N, 1)
        b = ops.matmul(phi, kernel[channels:])  # (B, M, 1)
        f = ops.relu(a + ops.transpose(b, (0, 2, 1))) / phi.shape[1]
        return ops.matmul(f, g)
    f = ops.matmul(theta, ops.transpose(phi, (0, 2, 1)))  # (B, N, M)
    if mode == "dot_product":
        return ops.matmul(f / phi.shape[1], g)
    if mode == SCALED:
        f = f * channels**-0.5
    return ops.matmul(ops.softmax(f, axis=-1), g)


KEYS_LAST = (published, broadcast)


def pairs_fit(mode, shape, dtype):
    """Whether `published` fits into memory: the pairs of the concatenation, repeated
    and joined, and their gradients."""
    free = machine.available_bytes()
    if mode != "concatenation" or free is None:
        return True
    pairs = 2 * shape.channels * shape.queries * shape.keys
    return 5 * pairs * (4 if dtype == "float32" else 2) < free
