"""The non-local operation y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j) (paper, Eq. 1)."""

from keras import backend, ops

from keras_nonlocal.ops.pairwise import MODES, PAIRWISE, choose_algorithm
from keras_nonlocal.validation import check_choice


def non_local(
    theta,
    phi,
    g,
    mode="embedded_gaussian",
    *,
    scale=None,
    concat_kernel=None,
    algorithm="auto",
):
    """Mixes the values `g` of all keys into every query.

    y_i = 1/C(x) sum_j f(theta_i, phi_j) g_j (Eq. 1), with

    - `"gaussian"`, `"embedded_gaussian"`: f = exp(scale theta_i . phi_j) and
      C = sum_j f: a softmax over the keys (Eqs. 2 and 3; the two differ in what
      is passed as theta and phi).
    - `"dot_product"`: f = theta_i . phi_j, C = M (Eq. 4).
    - `"concatenation"`: f = ReLU(w_f . [theta_i, phi_j]), C = M (Eq. 5).

    Args:
        theta: Queries, `(batch, N, d)`.
        phi: Keys, `(batch, M, d)`.
        g: Values, `(batch, M, d_g)`.
        mode: Pairwise function f.
        scale: Factor inside the exponential; Gaussian modes only. None means 1,
            as in the paper; the released code uses `d ** -0.5`.
        concat_kernel: w_f, `(2 d, 1)`, theta's half first; concatenation only.
        algorithm: Form of the computation; all give the same numbers and gradients to
            rounding. `"dense"` builds the (N, M) map. The others never do:
            `"chunked"` (Gaussian modes) computes a slice of the queries at a time,
            and its weights again in the backward pass; `"linear"` (dot product) is
            theta (phi^T g), linear in N and M; `"sorted"` (concatenation) sorts the
            keys by w_f . phi_j and takes prefix sums, O((N + M) log M). `"auto"` is
            the dense form if it is faster and its maps fit into 256 MiB, else the
            other.

    Returns:
        `(batch, N, d_g)`, in the dtype of `g`.

    Raises:
        ValueError: Unknown `mode` or `algorithm`; a `scale` or `concat_kernel`
            that does not belong to the mode; a missing or misshapen `concat_kernel`.

    Example:
    >>> theta, phi = np.ones((2, 6, 4)), np.ones((2, 3, 4))
    >>> y = non_local(theta, phi, np.ones((2, 3, 8)))
    >>> tuple(y.shape)
    (2, 6, 8)

    Reference: [Wang et al., 2018](https://arxiv.org/abs/1711.07971)
    """
    check_choice("mode", mode, MODES, owner="non_local")
    theta, phi, g = (ops.convert_to_tensor(t) for t in (theta, phi, g))
    _check_shapes(theta, phi, g)
    _check_arguments(mode, scale, concat_kernel, channels=theta.shape[-1])
    dtype = g.dtype
    common = backend.result_type(theta.dtype, phi.dtype, dtype)
    theta, phi, g = (ops.cast(t, common) for t in (theta, phi, g))
    sizes = (*theta.shape[:2], phi.shape[1], theta.shape[2], g.shape[2])
    algorithm = choose_algorithm(mode, algorithm, *sizes)
    queries, keys = PAIRWISE[mode].operands(theta, phi, scale, concat_kernel)
    y = PAIRWISE[mode].forms[algorithm].compute(queries, keys, g)
    return ops.cast(y, dtype)


def attention_scores(
    theta, phi, mode="embedded_gaussian", *, scale=None, concat_kernel=None
):
    """The weights f(theta_i, phi_j) / C(x) with which keys enter queries.

    Arguments as in `non_local`. In float16 and bfloat16 the softmax is taken
    in float32.

    Returns:
        `(batch, N, M)`. Gaussian modes: each row sums to one.

    Example:
    >>> scores = attention_scores(np.ones((1, 6, 4)), np.ones((1, 2, 4)))
    >>> float(scores[0, 0, 0])
    0.5
    """
    check_choice("mode", mode, MODES, owner="non_local")
    theta, phi = ops.convert_to_tensor(theta), ops.convert_to_tensor(phi)
    _check_shapes(theta, phi)
    _check_arguments(mode, scale, concat_kernel, channels=theta.shape[-1])
    queries, keys = PAIRWISE[mode].operands(theta, phi, scale, concat_kernel)
    return ops.cast(PAIRWISE[mode].scores(queries, keys), theta.dtype)


def _check_shapes(theta, phi, *g):
    shapes = [tuple(t.shape) for t in (theta, phi, *g)]
    fits = all(len(shape) == 3 for shape in shapes)
    fits = fits and _agree(shapes[0], shapes[1], 0, 2)
    if not (fits and all(_agree(shapes[1], shape, 0, 1) for shape in shapes[2:])):
        raise ValueError(
            "non_local: expected theta (B, N, d), phi (B, M, d) and g (B, M, d_g). "
            f"Received shapes: {', '.join(map(str, shapes))}."
        )


def _agree(one, other, *axes):
    return all(None in (one[k], other[k]) or one[k] == other[k] for k in axes)


def _check_arguments(mode, scale, concat_kernel, channels):
    if scale is not None and not PAIRWISE[mode].takes_scale:
        raise ValueError(
            f"non_local: `scale` belongs to the Gaussian modes; mode={mode!r} divides "
            f"by the number of keys. Received: scale={scale}."
        )
    if not PAIRWISE[mode].takes_concat_kernel:
        if concat_kernel is not None:
            raise ValueError(
                "non_local: `concat_kernel` belongs to mode='concatenation'. "
                f"Received it with mode={mode!r}."
            )
        return
    shape = None if concat_kernel is None else tuple(concat_kernel.shape)
    if shape != (2 * channels, 1):
        raise ValueError(
            "non_local: mode='concatenation' needs `concat_kernel` of shape "
            f"(2 * {channels}, 1), theta's half first. Received shape: {shape}."
        )
