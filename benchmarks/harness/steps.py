"""One form of a network, as the benchmarks run it."""

from collections.abc import Callable
from typing import NamedTuple


class Step(NamedTuple):
    """`run()` does one step; `values()`, to be called first, also returns its results.

    They are float32 arrays: [logits] of inference, [loss, gradient norm] of training,
    before the update.
    """

    run: Callable
    values: Callable
