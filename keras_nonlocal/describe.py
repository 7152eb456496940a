"""Prints what a network costs: `python -m keras_nonlocal.describe i3d --non-local 5`.

The command of the function `keras_nonlocal.describe`, to be run and not imported.
"""

import argparse
import dataclasses
import json
import sys

from keras_nonlocal.command_line import (
    clip_sizes,
    fail,
    image_sizes,
    json_value,
    print_all,
)
from keras_nonlocal.models import (
    ARCHITECTURES,
    CONVENTIONS,
    DEPTHS,
    DETECTION_CONVENTIONS,
    DETECTORS,
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
        if not isinstance(args.non_local_options, dict):
            raise ValueError("--non-local-options must be a JSON object.")
        description = args.describe(args)
    except (ValueError, TypeError) as error:
        return fail(error, 2)
    print_all(_to_json(description) if args.json else description)
    return 0


# === Arguments ===


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m keras_nonlocal.describe",
        description="Shapes, parameters and multiply-adds of a network, by stage.",
    )
    networks = parser.add_subparsers(dest="architecture", required=True)
    for name in ARCHITECTURES:
        _add_video_arguments(networks.add_parser(name).add_argument)
    for name in DETECTORS:
        _add_detector_arguments(networks.add_parser(name).add_argument)
    for name, subparser in networks.choices.items():
        _add_common_arguments(subparser.add_argument)
        function = _describe_video if name in ARCHITECTURES else _describe_detector
        subparser.set_defaults(describe=function)
    return parser


def _add_common_arguments(add):
    add("--depth", type=int, default=50, help=f"one of {tuple(DEPTHS)}")
    add(
        "--non-local",
        type=json_value,
        metavar="N",
        help="""1, 5, 10 or JSON such as '{"res3": [1, 3]}'""",
    )
    add("--mode", choices=MODES, help="of the non-local blocks")
    add("--non-local-options", type=json_value, default={}, metavar="JSON")
    add("--width", type=int, default=64)
    add("--json", action="store_true", help="print JSON")


def _add_video_arguments(add):
    add("--stem", choices=STEMS, default="8x8")
    add("--temporal-kernel", choices=TEMPORAL_KERNELS, help="i3d only")
    add("--convention", choices=CONVENTIONS, default="video_nonlocal_net")
    add("--num-classes", type=int, default=400)
    add("--input", type=clip_sizes, metavar="TxHxW", help="default: 224x224 clips")


def _add_detector_arguments(add):
    add("--convention", choices=DETECTION_CONVENTIONS, default="torchvision")
    add("--num-classes", type=int, help="with the background; default: COCO's")
    add("--groups", type=int, default=1, help="32 for ResNeXt-152-32x8d")
    add("--group-width", type=int, default=64, help="8 for ResNeXt-152-32x8d")
    add("--head-non-local", action="store_true", help="keypoint_rcnn only: Table 6")
    resized = "after resizing; default: 800x1088"
    add("--input", type=image_sizes, metavar="HxW", help=resized)


# === Networks ===


def _describe_video(args):
    arguments = _common(args) | {
        "input_shape": (*(args.input or _CLIPS[args.stem]), 3),
        "num_classes": args.num_classes,
        "stem": args.stem,
    }
    if args.temporal_kernel and args.architecture == "i3d":
        arguments["temporal_kernel"] = args.temporal_kernel
    elif args.temporal_kernel:
        print("note: c2d has no temporal kernels to choose from.", file=sys.stderr)
    return describe(build(args.architecture, **arguments))


def _describe_detector(args):
    arguments = _common(args) | {
        "groups": args.groups,
        "group_width": args.group_width,
        "name": args.architecture,
    }
    if args.num_classes is not None:
        arguments["num_classes"] = args.num_classes
    if args.architecture == "keypoint_rcnn":
        arguments["head_non_local"] = args.head_non_local
    elif args.head_non_local:
        print("note: mask_rcnn has no blocks in its heads.", file=sys.stderr)
    return describe(DETECTORS[args.architecture](**arguments), args.input)


def _common(args):
    options = {"mode": args.mode} if args.mode else {}
    return {
        "depth": args.depth,
        "non_local": args.non_local,
        "non_local_options": args.non_local_options | options,
        "convention": args.convention,
        "width": args.width,
    }


# === Output ===


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
