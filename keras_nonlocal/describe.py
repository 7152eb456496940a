"""Prints what a network costs: `python -m keras_nonlocal.describe i3d --non-local 5`.

The command of the function `keras_nonlocal.describe`, to be run and not imported.
"""

import argparse
import dataclasses
import json
import sys

from keras_nonlocal.command_line import clip_sizes, fail, json_value, print_all
from keras_nonlocal.models import (
    ARCHITECTURES,
    CONVENTIONS,
    DEPTHS,
    STEMS,
    TEMPORAL_KERNELS,
    build,
    describe,
)
from keras_nonlocal.ops import MODES

_CLIPS = {"8x8": (8, 224, 224), "32x2": (32, 224, 224)}


def main(argv=None):
    """Prints the costs of the network in the arguments; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        description = describe(_build(args))
    except (ValueError, TypeError) as error:
        return fail(error, 2)
    print_all(_to_json(description) if args.json else description)
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m keras_nonlocal.describe",
        description="Shapes, parameters and multiply-adds of a network, by stage.",
    )
    add = parser.add_argument
    add("architecture", choices=ARCHITECTURES)
    add("--depth", type=int, default=50, help=f"one of {tuple(DEPTHS)}")
    add("--stem", choices=STEMS, default="8x8")
    add("--temporal-kernel", choices=TEMPORAL_KERNELS, help="i3d only")
    add(
        "--non-local",
        type=json_value,
        metavar="N",
        help="""1, 5, 10 or JSON such as '{"res3": [1, 3]}'""",
    )
    add("--mode", choices=MODES, help="of the non-local blocks")
    add("--non-local-options", type=json_value, default={}, metavar="JSON")
    add("--convention", choices=CONVENTIONS, default="video_nonlocal_net")
    add("--width", type=int, default=64)
    add("--num-classes", type=int, default=400)
    add("--input", type=clip_sizes, metavar="TxHxW", help="default: 224x224 clips")
    add("--json", action="store_true", help="print JSON")
    return parser


def _build(args):
    options = {"mode": args.mode} if args.mode else {}
    if not isinstance(args.non_local_options, dict):
        raise ValueError("--non-local-options must be a JSON object.")
    arguments = {
        "depth": args.depth,
        "num_classes": args.num_classes,
        "input_shape": (*(args.input or _CLIPS[args.stem]), 3),
        "stem": args.stem,
        "non_local": args.non_local,
        "non_local_options": args.non_local_options | options,
        "convention": args.convention,
        "width": args.width,
    }
    if args.temporal_kernel and args.architecture == "i3d":
        arguments["temporal_kernel"] = args.temporal_kernel
    elif args.temporal_kernel:
        print("note: c2d has no temporal kernels to choose from.", file=sys.stderr)
    return build(args.architecture, **arguments)


def _to_json(description):
    contents = {
        "name": description.name,
        "input_shape": description.input_shape,
        "params": description.params,
        "gmacs": description.gmacs,
        "gmacs_by_kind": _in_giga(description.macs),
        "non_local_blocks": len(description.non_local_blocks),
        "non_local_block_names": description.non_local_blocks,
        "parts": [
            {
                "name": part.name,
                "output_shape": part.output_shape,
                "params": part.params,
                "gmacs": part.macs.total / 1e9,
                "gmacs_by_kind": _in_giga(part.macs),
                "non_local_block_names": part.non_local_blocks,
            }
            for part in description.parts
        ],
    }
    return json.dumps(contents, indent=2)


def _in_giga(macs):
    return {kind: count / 1e9 for kind, count in dataclasses.asdict(macs).items()}


if __name__ == "__main__":
    sys.exit(main())
