"""Which exact form computes a pairwise function, and what each costs."""

import dataclasses

from keras_nonlocal.ops import chunks
from keras_nonlocal.validation import check_choice

MODES = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")
ALGORITHMS = ("auto", "dense", "linear", "sorted", "chunked")
# Beside "dense", which every mode has.
LEAN = {
    "gaussian": "chunked",
    "embedded_gaussian": "chunked",
    "dot_product": "linear",
    "concatenation": "sorted",
}

# Bytes that a form may take, at its peak in training, for `auto` to choose it.
MEMORY_BUDGET = 2**28

# Multiply-adds in the time that memory moves one number: about 50 on CPUs, and of
# the same order on GPUs.
MULTIPLY_ADDS_PER_NUMBER = 50


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one form of the operation takes, forward and backward.

    Attributes:
        forward_multiply_adds: Of the forward pass.
        multiply_adds: Of both passes.
        numbers_moved: Numbers read and written beside the matrix products.
        peak_numbers: Numbers in memory at once, beside operands and results.
    """

    forward_multiply_adds: int
    multiply_adds: int
    numbers_moved: int
    peak_numbers: int

    @property
    def time(self):
        """In multiply-adds."""
        return self.multiply_adds + MULTIPLY_ADDS_PER_NUMBER * self.numbers_moved


def cost(algorithm, mode, batch, num_queries, num_keys, channels, value_channels):
    """`Cost` of `(B, N, d)` queries on `(B, M, d)` keys with `(B, M, d_g)` values."""
    form = _COSTS[algorithm]
    b, n, m, d, d_g = batch, num_queries, num_keys, channels, value_channels
    if mode == "concatenation":
        d = 0  # f needs a_i and b_j alone
    return form(b, n, m, d, d_g)


def _dense(b, n, m, d, d_g):
    products = b * n * m * (d + d_g)
    # The map, its activation and, backward, the gradient of both.
    return Cost(products, 3 * products, 8 * b * n * m, 3 * b * n * m)


def _chunked(b, n, m, d, d_g):
    products = b * n * m * (d + d_g)
    rows = chunks.chunk_rows(b, n, m)
    again = b * n * m * d  # the weights, computed once more
    peak = 3 * b * rows * m + b * n * (d + 2) + b * m * (d + d_g)
    return Cost(products, 3 * products + again, 8 * b * n * m, peak)


def _linear(b, n, m, d, d_g):
    products = b * (n + m) * d * d_g
    return Cost(products, 3 * products, 0, 2 * b * d * d_g)


def _sorted(b, n, m, d, d_g):
    products = 2 * 64 * b * m * d_g  # prefix sums in blocks
    moved = b * d_g * (12 * n + 16 * m)
    return Cost(products, 2 * products, moved, b * d_g * (3 * n + 8 * m))


_COSTS = {
    "dense": _dense,
    "chunked": _chunked,
    "linear": _linear,
    "sorted": _sorted,
}


def choose(algorithm, mode, batch, num_queries, num_keys, channels, value_channels):
    """The form that `algorithm` means for these shapes.

    `"auto"` takes the dense form where it is the faster by the cost model and its
    maps fit into `MEMORY_BUDGET`, else the lean one; with N or M unknown (dynamic
    axes) the lean one, whose memory is safe at any size. An unknown batch counts
    as 1.

    Raises:
        ValueError: Unknown `algorithm`, or one that `mode` does not have.
    """
    check_algorithm(algorithm, mode)
    if algorithm != "auto":
        return algorithm
    lean = LEAN[mode]
    if not isinstance(num_queries, int) or not isinstance(num_keys, int):
        return lean
    sizes = (batch if isinstance(batch, int) else 1, num_queries, num_keys)
    costs = {
        form: cost(form, mode, *sizes, channels, value_channels)
        for form in ("dense", lean)
    }
    too_large = 4 * costs["dense"].peak_numbers > MEMORY_BUDGET
    if too_large or costs[lean].time < costs["dense"].time:
        return lean
    return "dense"


def check_algorithm(algorithm, mode, *, owner="non_local"):
    """Raises a `ValueError` for an algorithm that `mode` does not have."""
    check_choice("algorithm", algorithm, ALGORITHMS, owner=owner)
    if algorithm in ("auto", "dense", LEAN[mode]):
        return
    raise ValueError(
        f"{owner}: algorithm={algorithm!r} is not a form of mode={mode!r}, which has "
        f"'dense' and {LEAN[mode]!r}. Use one of these, or 'auto'."
    )
