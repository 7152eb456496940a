"""The pairwise functions f and the exact forms that compute them, in one table."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from keras_nonlocal.ops import concatenation, cost, dot_product, gaussian
from keras_nonlocal.validation import check_choice


class Form(NamedTuple):
    """One way to compute y_i = 1/C(x) sum_j f(x_i, x_j) g_j.

    Attributes:
        compute: `(queries, keys, g)` to y, `(B, N, d_g)`. Where f is a function of
            theta . phi, the dense form also takes a bias of the keys, `(B, 1, M)`.
        cost: `(B, N, M, d, d_g)` to `Cost`.
        in_float32: Its maps and sums are in float32 at least.
    """

    compute: Callable
    cost: Callable
    in_float32: bool = False


class Pairwise(NamedTuple):
    """A pairwise function f, normalised by C.

    Attributes:
        operands: `(theta, phi, scale, concat_kernel)` to `(queries, keys)` in the
            form and precision that `scores` and the forms take.
        scores: `(queries, keys)` to f / C, `(B, N, M)`.
        forms: `Form` by algorithm: the dense one, which builds the map of all pairs,
            and the lean one, which does not.
        embeds: theta and phi are embeddings of the features, not the features.
        takes_scale: f has a factor inside the exponential.
        takes_concat_kernel: f has the weights w_f, which reduce each query and key to
            a number.
        context: `(keys, g)` to the `(B, d, d_g)` by which the linear form multiplies
            queries, or None.
    """

    operands: Callable
    scores: Callable
    forms: dict[str, Form]
    embeds: bool = True
    takes_scale: bool = False
    takes_concat_kernel: bool = False
    context: Callable | None = None

    @property
    def lean(self):
        """The algorithm that builds no map."""
        return list(self.forms)[-1]


_SOFTMAX = Pairwise(
    gaussian.operands,
    gaussian.scores,
    {
        "dense": Form(gaussian.dense, cost.dense, in_float32=True),
        "chunked": Form(gaussian.chunked, cost.chunked, in_float32=True),
    },
    takes_scale=True,
)
PAIRWISE = {
    "gaussian": _SOFTMAX._replace(operands=gaussian.raw_operands, embeds=False),
    "embedded_gaussian": _SOFTMAX,
    "dot_product": Pairwise(
        dot_product.operands,
        dot_product.scores,
        {
            "dense": Form(dot_product.dense, cost.dense),
            "linear": Form(dot_product.linear, cost.linear),
        },
        context=dot_product.context,
    ),
    "concatenation": Pairwise(
        concatenation.operands,
        concatenation.scores,
        {
            "dense": Form(concatenation.dense, cost.dense),
            "sorted": Form(concatenation.sorted, cost.sorted, in_float32=True),
        },
        takes_concat_kernel=True,
    ),
}
MODES = tuple(PAIRWISE)
ALGORITHMS = ("auto", "dense", "linear", "sorted", "chunked")


def pairwise_cost(mode, algorithm, batch, num_queries, num_keys, channels, values):
    """`Cost` of `(B, N, d)` queries on `(B, M, d)` keys with `(B, M, d_g)` values."""
    form = PAIRWISE[mode].forms[algorithm]
    if PAIRWISE[mode].takes_concat_kernel:
        channels = 0  # f needs a_i and b_j alone
    found = form.cost(batch, num_queries, num_keys, channels, values)
    accumulated = found.peak if form.in_float32 else 0
    return dataclasses.replace(found, accumulated=accumulated)


def candidates(mode, algorithm, num_queries, num_keys):
    """The algorithms to choose from: for `"auto"`, both forms.

    With N or M unknown (dynamic axes) the lean one, whose memory is safe at any size.
    """
    if algorithm != "auto":
        return (algorithm,)
    pairwise = PAIRWISE[mode]
    is_known = isinstance(num_queries, int) and isinstance(num_keys, int)
    return tuple(pairwise.forms) if is_known else (pairwise.lean,)


def choose_algorithm(mode, algorithm, batch, num_queries, num_keys, channels, values):
    """The algorithm that `algorithm` means for these shapes: the `cheapest`.

    An unknown batch counts as 1.

    Raises:
        ValueError: Unknown `algorithm`, or one that `mode` does not have.
    """
    check_algorithm(algorithm, mode)
    choices = candidates(mode, algorithm, num_queries, num_keys)
    if len(choices) == 1:
        return choices[0]
    batch = batch if isinstance(batch, int) else 1
    sizes = (batch, num_queries, num_keys, channels, values)
    return cost.cheapest({name: pairwise_cost(mode, name, *sizes) for name in choices})


def check_algorithm(algorithm, mode, *, owner="non_local"):
    """Raises a `ValueError` for an algorithm that `mode` does not have."""
    check_choice("algorithm", algorithm, ALGORITHMS, owner=owner)
    if algorithm == "auto" or algorithm in PAIRWISE[mode].forms:
        return
    dense, lean = PAIRWISE[mode].forms
    raise ValueError(
        f"{owner}: algorithm={algorithm!r} is not a form of mode={mode!r}, which has "
        f"{dense!r} and {lean!r}. Use one of these, or 'auto'."
    )
