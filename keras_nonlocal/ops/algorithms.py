"""Which exact form computes a pairwise function, and what each costs."""

import dataclasses

from keras_nonlocal.ops import chunks, prefix_sums
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

# Bytes, counted in float32, that the maps may take at their peak in training for
# `auto` to choose the dense form.
MEMORY_BUDGET = 2**28

# Multiply-adds in the time that memory moves one number: about 50 on CPUs, and of
# the same order on GPUs.
MULTIPLY_ADDS_PER_NUMBER = 50


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a computation takes, forward and backward; costs add up.

    Attributes:
        multiply_adds: Of the forward pass.
        again: Multiply-adds that the backward pass repeats of the forward pass.
        moved: Numbers read and written beside the matrix products.
        peak: Numbers in memory at once, beside operands and results.
        accumulated: Of these, those kept in float32 where the others are in half
            precision.
    """

    multiply_adds: int = 0
    again: int = 0
    moved: int = 0
    peak: int = 0
    accumulated: int = 0

    def __add__(self, other):
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Cost(*map(sum, pairs))

    def times(self, count):
        """Of `count` such computations, all in memory at once."""
        return Cost(*(count * number for number in dataclasses.astuple(self)))

    @property
    def training_multiply_adds(self):
        """Of both passes: each product has two gradients of its own size."""
        return 3 * self.multiply_adds + self.again

    @property
    def time(self):
        """Of both passes, in multiply-adds."""
        return self.training_multiply_adds + MULTIPLY_ADDS_PER_NUMBER * self.moved

    def bytes_in(self, itemsize):
        """The peak, where a number takes `itemsize` bytes."""
        half = self.peak - self.accumulated
        return itemsize * half + max(itemsize, 4) * self.accumulated

    @property
    def peak_bytes(self):
        """In float32."""
        return self.bytes_in(4)


def cost(algorithm, mode, batch, num_queries, num_keys, channels, value_channels):
    """`Cost` of `(B, N, d)` queries on `(B, M, d)` keys with `(B, M, d_g)` values."""
    if mode == "concatenation":
        channels = 0  # f needs a_i and b_j alone
    sizes = (batch, num_queries, num_keys, channels, value_channels)
    found = _COSTS[algorithm](*sizes)
    in_float32 = "gaussian" in mode or algorithm == "sorted"
    return dataclasses.replace(found, accumulated=found.peak if in_float32 else 0)


def _dense(b, n, m, d, d_g):
    # Three maps: the logits and the scores, and backward the gradient of one.
    return Cost(b * n * m * (d + d_g), moved=8 * b * n * m, peak=3 * b * n * m)


def _chunked(b, n, m, d, d_g):
    slices = 3 * b * chunks.chunk_rows(b, n, m) * m
    return Cost(
        b * n * m * (d + d_g),
        again=b * n * m * d,
        moved=8 * b * n * m,
        peak=slices + b * (2 * n + m * (d + d_g)),
    )


def _linear(b, n, m, d, d_g):
    return Cost(b * (n + m) * d * d_g, peak=2 * b * d * d_g)


def _sorted(b, n, m, d, d_g):
    sums = 2 * prefix_sums.BLOCK * b * m * d_g
    return Cost(sums, moved=b * d_g * (12 * n + 16 * m), peak=b * d_g * (3 * n + 8 * m))


_COSTS = {"dense": _dense, "chunked": _chunked, "linear": _linear, "sorted": _sorted}


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
    too_large = costs["dense"].peak_bytes > MEMORY_BUDGET
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
