"""The flags of `trainers/detection.py`, as its modes receive them."""

import dataclasses

from trainers.core import options


@dataclasses.dataclass(frozen=True)
class Options(options.Options):
    """The flags of the command."""

    output_dir: str = ""
    min_score: float = 0.5
