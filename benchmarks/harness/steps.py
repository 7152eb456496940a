"""What a form of a network is to the benchmarks."""

from collections.abc import Callable
from typing import NamedTuple


class Step(NamedTuple):
    """`run()` does it once; `values()`, to be called first, also tells what came out.

    Arrays in float32: of inference [logits], of training [loss, gradient norm], both
    before the update.
    """

    run: Callable
    values: Callable
