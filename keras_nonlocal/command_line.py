"""Functions that the commands `python -m keras_nonlocal.*` share."""

import argparse
import json
import os
import sys


def json_value(text):
    """An argparse type: the value of JSON text.

    Example:
    >>> json_value('{"res3": [1, 3]}')
    {'res3': [1, 3]}
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON") from None


def clip_sizes(text):
    """An argparse type: `(frames, height, width)`.

    Example:
    >>> clip_sizes("32x224x224")
    (32, 224, 224)
    """
    sizes = _sizes(text)
    if len(sizes) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 32x224x224")
    return sizes


def image_sizes(text):
    """An argparse type: `(height, width)`.

    Example:
    >>> image_sizes("800x1333")
    (800, 1333)
    """
    sizes = _sizes(text)
    if len(sizes) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 800x1333")
    return sizes


def map_sizes(text):
    """An argparse type: the sizes of a map, channels last.

    Example:
    >>> map_sizes("32x28x28x512")
    (32, 28, 28, 512)
    """
    sizes = _sizes(text)
    if not 2 <= len(sizes) <= 4:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not like 32x28x28x512, 28x28x512 or 128x512"
        )
    return sizes


def _sizes(text):
    """Positive whole numbers between `x`; `()` for other text."""
    sizes = text.lower().split("x")
    if not all(size.isdecimal() and int(size) for size in sizes):
        return ()
    return tuple(map(int, sizes))


def fail(message, status):
    """Prints an error to stderr; returns the exit status of the command."""
    print(f"error: {message}", file=sys.stderr)
    return status


def print_all(text):
    """Prints to a pipe that may be closed early, such as `| head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # Python would flush again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
