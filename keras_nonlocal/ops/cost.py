"""What a computation costs in time and memory, and which of several is the cheapest."""

import dataclasses

from keras_nonlocal.ops import chunks, prefix_sums

# Bytes, counted in float32, that a computation with maps of all pairs may take at its
# peak in training. Above it, `algorithm="auto"` takes a form without maps.
MEMORY_BUDGET = 2**28

# Multiply-adds in the time that memory moves one number: about 50 on CPUs, and of
# the same order on GPUs.
MULTIPLY_ADDS_PER_NUMBER = 50


@dataclasses.dataclass(frozen=True)
class Cost:
    """Time and memory of a forward and a backward pass; costs add up.

    Attributes:
        multiply_adds: Of the forward pass.
        repeated: Multiply-adds of the forward pass that the backward pass repeats.
        moved: Numbers read and written outside the matrix products.
        peak: Numbers in memory at once, without operands and results.
        accumulated: Of these, those in float32 while others are in half precision.
        maps: Of these, those in maps of all pairs.
    """

    multiply_adds: int = 0
    repeated: int = 0
    moved: int = 0
    peak: int = 0
    accumulated: int = 0
    maps: int = 0

    def __add__(self, other):
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Cost(*map(sum, pairs))

    def times(self, count):
        """Of `count` such computations, all in memory at once."""
        return Cost(*(count * number for number in dataclasses.astuple(self)))

    @property
    def training_multiply_adds(self):
        """Of both passes: each product has two gradients of its own size."""
        return 3 * self.multiply_adds + self.repeated

    @property
    def time(self):
        """Of both passes, in multiply-adds."""
        return self.training_multiply_adds + MULTIPLY_ADDS_PER_NUMBER * self.moved

    def bytes_in(self, itemsize):
        """The peak, where a number takes `itemsize` bytes."""
        half = self.peak - self.accumulated
        return itemsize * half + max(itemsize, 4) * self.accumulated

    @property
    def exceeds_budget(self):
        """Whether maps are built, and the peak in float32 is above the budget."""
        return self.maps > 0 and self.bytes_in(4) > MEMORY_BUDGET


def cheapest(costs):
    """The fastest of several computations, within `MEMORY_BUDGET` if any is.

    Args:
        costs: Dict from computations to their `Cost`. The first of equals is taken.

    Example:
    >>> cheapest({"dense": Cost(8, maps=2), "linear": Cost(6), "slow": Cost(9)})
    'linear'
    """
    return min(costs, key=lambda key: (costs[key].exceeds_budget, costs[key].time))


# === Of `(B, N, d)` queries on `(B, M, d)` keys with `(B, M, d_g)` values ===


def dense(b, n, m, d, d_g):
    # Three maps: the logits and the scores, and backward the gradient of one.
    maps = 3 * b * n * m
    return Cost(b * n * m * (d + d_g), moved=8 * b * n * m, peak=maps, maps=maps)


def chunked(b, n, m, d, d_g):
    slices = 3 * b * chunks.chunk_rows(b, n, m) * m
    return Cost(
        b * n * m * (d + d_g),
        repeated=b * n * m * d,
        moved=8 * b * n * m,
        peak=slices + b * (2 * n + m * (d + d_g)),
    )


def linear(b, n, m, d, d_g):
    return Cost(b * (n + m) * d * d_g, peak=2 * b * d * d_g)


def sorted(b, n, m, d, d_g):
    sums = 2 * prefix_sums.BLOCK * b * m * d_g
    return Cost(sums, moved=b * d_g * (12 * n + 16 * m), peak=b * d_g * (3 * n + 8 * m))
