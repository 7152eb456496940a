"""Argument checks that several modules share."""

import difflib


def invalid_argument(argument, value, expected, *, owner):
    """The `ValueError` for an argument of the function or class `owner`."""
    return ValueError(
        f"Invalid value for argument `{argument}` of {owner}. Expected {expected}. "
        f"Received: {argument}={value!r}."
    )


def check_choice(argument, value, choices, *, owner):
    """Raises a `ValueError` naming the nearest choice unless `value` is one."""
    if value in choices:
        return
    nearest = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    expected = f"one of {tuple(choices)}"
    error = invalid_argument(argument, value, expected, owner=owner)
    raise ValueError(f"{error}{hint}")


def check_positive_int(argument, value, *, owner):
    """Raises a `ValueError` unless `value` is an int above zero."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise invalid_argument(argument, value, "a positive integer", owner=owner)
