"""Argument checks that several modules share: say what, where, and the nearest fix."""

import difflib


def check_choice(argument, value, choices, *, owner):
    """Raises a `ValueError` naming the nearest choice unless `value` is one."""
    if value in choices:
        return
    nearest = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(
        f"Invalid value for argument `{argument}` of {owner}. Expected one of "
        f"{tuple(choices)}. Received: {argument}={value!r}.{hint}"
    )


def check_positive_int(argument, value, *, owner):
    """Raises a `ValueError` unless `value` is an int above zero."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return
    raise ValueError(
        f"Invalid value for argument `{argument}` of {owner}. Expected a positive "
        f"integer. Received: {argument}={value!r}."
    )
