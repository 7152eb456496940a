"""Errors that a user can correct, with the nearest valid value in the message."""

import contextlib
import difflib
import sys
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake that the user can correct: printed as one message, no traceback.

    Attributes:
        exit_code: Of the command.
    """

    exit_code = 1


class DataError(UserError):
    """The data, or an index of them, cannot be used."""


class Interrupted(Exception):
    """A signal asked training to stop; the last step is complete.

    Args:
        signum: Number of the signal.
        elsewhere: Whether another worker received it, not this one.
    """

    def __init__(self, signum: int, elsewhere: bool = False):
        where = " that another worker received" if elsewhere else ""
        super().__init__(f"stopped by signal {signum}{where}")
        self.signum = signum


def warn(message):
    """Prints `warning: message` on stderr."""
    print(f"warning: {message}", file=sys.stderr)


@contextlib.contextmanager
def errors_of(key: str):
    """Context: a `UserError` within gets the prefix `key: `."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def check_key(key: str, value, choices: Iterable):
    """Raises a `UserError` with the nearest choice unless `value` is one.

    Args:
        key: The whole key in the config, `runtime.distribution_strategy` for example.
        value: Its value.
        choices: The valid values.
    """
    if value not in choices:
        raise UserError(f"{key} is {value!r}.{did_you_mean(value, choices)}")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or the list of choices if none is similar.

    Example:
    >>> did_you_mean("trian", ["train", "eval"])
    " Did you mean 'train'?"
    """
    choices = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.6)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Expected one of: {', '.join(sorted(choices))}."
