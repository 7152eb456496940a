"""Training steps of a non-local block on a map whose pairs do not fit into memory.

    python benchmarks/large_maps.py [--maps 64x56x56] [--modes dot_product]

One step is the block's output and the gradients of x and of all weights, of a clip of
--channels channels, keys sub-sampled, under `tf.function`, in a process of its own.
The peak is that of the whole process, libraries included; "all pairs" is the size of
one (N, M) map.
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from harness import large_map, machine
from harness.op_subjects import MODES
from harness.options import choices_of
from harness.tables import QUICK_NOTE, number, print_header, print_row

DEFAULT_MAP = "64x56x56"
QUICK_MAP = "4x8x8"
BYTES = {"float32": 4, "bfloat16": 2}
HEADER = ("map", "N", "M", "mode", "step, s", "peak, MiB", "all pairs, MiB")


def main():
    args = parse_arguments()
    print(
        f"{machine.machine_line()} {args.dtype}, batch 1, {args.channels} channels.\n"
    )
    print(f"\n{QUICK_NOTE}" if args.quick else "")
    print_header(HEADER)
    failed = []
    for sizes in args.maps:
        for mode in args.modes:
            measured = large_map.measure(mode, args.dtype, (*sizes, args.channels))
            print_row(cells(sizes, mode, measured, args.dtype))
            failed += [] if measured else [f"{mode} at {'x'.join(map(str, sizes))}"]
    if failed:
        sys.exit(f"error: out of memory: {', '.join(failed)}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--maps", type=_maps, help=f"TxHxW, by commas; default: {DEFAULT_MAP}")
    add("--modes", type=choices_of(MODES), default=",".join(MODES))
    add("--channels", type=int, default=64, help="of the block's input")
    add("--dtype", choices=BYTES, default="float32")
    add("--quick", action="store_true", help="smoke test: a tiny map")
    args = parser.parse_args()
    if args.channels < 1:
        parser.error(f"--channels {args.channels}: expected a positive number")
    args.maps = args.maps or _maps(QUICK_MAP if args.quick else DEFAULT_MAP)
    return args


def _maps(text):
    return [_map(sizes) for sizes in text.split(",")]


def _map(text):
    sizes = text.split("x")
    if len(sizes) != 3 or not all(s.isdecimal() and int(s) > 0 for s in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not like {DEFAULT_MAP}")
    if min(map(int, sizes[1:])) < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: sub-sampling takes 2x2 positions")
    return tuple(map(int, sizes))


def cells(sizes, mode, measured, dtype):
    """One line of the table."""
    frames, height, width = sizes
    queries = frames * height * width
    keys = frames * (height // 2) * (width // 2)
    pairs = queries * keys * BYTES[dtype] / 2**20
    seconds, peak = measured or (None, None)
    counts = (f"{count:,}" for count in (queries, keys))
    name = "x".join(map(str, sizes))
    return [name, *counts, mode, *map(number, (seconds, peak, pairs))]


if __name__ == "__main__":
    main()
