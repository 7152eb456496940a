"""How the trainers tell a user what is wrong, and what the nearest right is."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can put right: printed as one message, no traceback."""


class Interrupted(Exception):
    """Training was asked to stop by a signal; the state is whole.

    Attributes:
        signum: Number of the signal.
    """

    def __init__(self, signum: int):
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum


def check_choice(key: str, value, choices: Iterable):
    """Raises a `UserError` naming the nearest choice unless `value` is one.

    Args:
        key: The whole key in the config, `runtime.distribution_strategy` say.
        value: What it is set to.
        choices: What it can be.
    """
    if value not in choices:
        raise UserError(f"{key} is {value!r}.{did_you_mean(value, choices)}")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or the choices where none is near.

    Example:
    >>> did_you_mean("trian", ["train", "eval"])
    " Did you mean 'train'?"
    """
    choices = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.6)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Expected one of: {', '.join(sorted(choices))}."
