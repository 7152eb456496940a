"""Command-line values."""

import argparse


def choices_of(choices):
    """An argparse type: names among `choices`, joined by commas."""

    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in choices:
                raise argparse.ArgumentTypeError(
                    f"{name!r} is not one of {', '.join(choices)}"
                )
        return names

    return parse


def positive(text):
    """An argparse type: a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)
