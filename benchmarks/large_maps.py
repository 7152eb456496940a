"""Training steps of a non-local block on a map whose pairs do not fit into memory.

    python benchmarks/large_maps.py [--maps 64x56x56] [--modes dot_product]

One step is the block's output and the gradients of x and of all weights, of a clip of
--channels channels, keys sub-sampled, under `tf.function`. The peak is that of the
whole process, libraries included; "all pairs" is the size of one (N, M) map. The clock:
harness/clock.py.
"""

import argparse
import sys

from harness.block import Case
from harness.clock import Clock
from harness.operation import MODES
from harness.options import choices_of, clock_parser, parse, positive
from harness.report import Report, number, print_header, print_row
from harness.workers import Subject

DEFAULT_MAP = "64x56x56"
QUICK_MAP = "4x8x8"
BYTES = {"float32": 4, "bfloat16": 2}
HEADER = ("map", "N", "M", "mode", "step, ms", "peak, MiB", "all pairs, MiB")


def main():
    args = parse_arguments()
    report, clock = Report(__file__, args), Clock(args)
    print(f"{args.dtype}, batch 1, {args.channels} channels\n")
    print_header(HEADER)
    failed = []
    for sizes in args.maps:
        for mode in args.modes:
            case = Case(mode, "PySlowFast", args.dtype, *sizes, args.channels)
            name = "x".join(map(str, sizes))
            subject = Subject(mode, "harness.block:make_training", (case,))
            measured = clock.measure({mode: subject})[mode]
            report.add(
                f"{name}, {args.channels}, {args.dtype}, {mode}", measured.figures
            )
            print_row(cells(name, case, measured.figures))
            if not measured.figures:
                failed.append(f"{mode} at {name}: out of memory")
            elif not all(values.all() for values in measured.values):
                failed.append(f"{mode} at {name}: a gradient is not finite")
    report.finish(clock.loads)
    if failed:
        sys.exit(f"error: {', '.join(failed)}")


def parse_arguments():
    parser = clock_parser(__doc__, rounds=3, seconds=60)
    add = parser.add_argument
    add("--maps", type=_maps, default=DEFAULT_MAP, help="TxHxW, by commas")
    add("--modes", type=choices_of(MODES), default=",".join(MODES))
    add("--channels", type=positive, default=64, help="of the block's input")
    add("--dtype", choices=BYTES, default="float32")
    return parse(parser, {"maps": _maps(QUICK_MAP)})


def _maps(text):
    return [_map(sizes) for sizes in text.split(",")]


def _map(text):
    sizes = text.split("x")
    if len(sizes) != 3 or not all(s.isdecimal() and int(s) > 0 for s in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not like {DEFAULT_MAP}")
    if min(map(int, sizes[1:])) < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: sub-sampling takes 2x2 positions")
    return tuple(map(int, sizes))


def cells(name, case, figures):
    """One line of the table."""
    queries, keys, _ = case.op_shape
    pairs = queries * keys * BYTES[case.dtype] / 2**20
    figures = figures.get("training ms"), figures.get("process MiB")
    counts = f"{queries:,}", f"{keys:,}"
    return [name, *counts, case.mode, *map(number, (*figures, pairs))]


if __name__ == "__main__":
    main()
