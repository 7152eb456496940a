"""Prints what a block costs: `python -m keras_nonlocal.estimate --input 32x28x28x512`.

The command of the function `keras_nonlocal.estimate`, to be run and not imported:
multiply-adds and peak memory in training of each form of the block.
"""

import argparse
import dataclasses
import json
import sys

from keras_nonlocal.command_line import fail, json_value, map_sizes, print_all
from keras_nonlocal.layers import estimate
from keras_nonlocal.ops import MODES


def main(argv=None):
    """Prints the estimate of the arguments' block; returns the exit status."""
    args = _parser().parse_args(argv)
    if not isinstance(args.options, dict):
        return fail("--options must be a JSON object.", 2)
    try:
        result = estimate({"mode": args.mode} | args.options, (args.batch, *args.input))
    except (ValueError, TypeError) as error:
        return fail(error, 2)
    as_json = json.dumps(dataclasses.asdict(result), indent=2) if args.json else None
    print_all(as_json or result)
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m keras_nonlocal.estimate",
        description="Multiply-adds and memory of each form of a non-local block.",
    )
    add = parser.add_argument
    add("--mode", choices=MODES, default="embedded_gaussian")
    add(
        "--input",
        type=map_sizes,
        default=(32, 28, 28, 512),
        metavar="TxHxWxC",
        help="the block's input: a clip, an image HxWxC or a sequence LxC",
    )
    add("--batch", type=int, default=1, help="inputs at a time; default: 1")
    add(
        "--options",
        type=json_value,
        default={},
        metavar="JSON",
        help="""other arguments of NonLocal3D, such as '{"sub_sample": false}'""",
    )
    add("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
