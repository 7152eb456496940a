"""What the commands `python -m keras_nonlocal.*` share.

Imported before Keras: where a command is what runs, TensorFlow's start-up notes stay
off its output. A program that imports the package keeps them.
"""

import argparse
import json
import os
import sys


def _runs_command():
    """Whether Python is still on its way to `-m keras_nonlocal.*`."""
    return sys.argv[:1] == ["-m"] and any(
        argument.startswith("keras_nonlocal.") for argument in sys.orig_argv
    )


if _runs_command():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def json_value(text):
    """An argparse type: what the JSON says.

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
    sizes = text.lower().split("x")
    if len(sizes) != 3 or not all(size.isdecimal() and int(size) for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 32x224x224")
    return tuple(map(int, sizes))
