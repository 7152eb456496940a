"""Time and memory of the non-local operation, beside its peers.

    python benchmarks/non_local_op.py [--shapes res3,clip32] [--modes dot_product]

Each peer is written from the published formulas and checked on the same operands
(column "error": the largest relative error of y and of all gradients, against the
dense form in float32). Peak memory is the growth of a process that runs this form
alone, above its libraries and operands: in all, and (forward + backward) beyond y and
the gradients, which every form ends with. The clock: harness/clock.py.
"""

import argparse
import sys

from harness import machine
from harness.clock import Clock
from harness.operation import (
    MODES,
    NAMED_SHAPES,
    PEERS,
    form,
    parse_shape,
    relative_error,
    tensors_mib,
)
from harness.options import choices_of, clock_parser, parse
from harness.report import (
    Report,
    number,
    print_header,
    print_row,
    ratio,
    scientific,
)
from harness.workers import Subject

DEFAULT_SHAPES = "res4,res4-full,res3,res3-full,clip32"
QUICK = {"shapes": [parse_shape("98x24x16")]}
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
DENSE = "keras"  # in float32, it gives the expected values
FORWARD, BOTH = "forward", "forward + backward"
HEADER = (
    "mode",
    "form",
    f"{FORWARD}, ms",
    "x ours",
    f"{BOTH}, ms",
    "x ours",
    f"{FORWARD} peak, MiB",
    f"{BOTH} peak, MiB",
    "beyond results, MiB",
    "error",
)


def main():
    args = parse_arguments()
    report, clock = Report(__file__, args), Clock(args)
    disagreeing = []
    for shape in args.shapes:
        print(f"**{shape}**, {args.dtype}, batch 1\n")
        print_header(HEADER)
        for mode in args.modes:
            disagreeing += measure(args, clock, report, mode, shape)
        print()
    report.finish(clock.loads)
    if disagreeing:
        sys.exit("error: not the values of the dense form: " + "; ".join(disagreeing))


def parse_arguments():
    parser = clock_parser(
        __doc__,
        rounds=9,
        seconds=60,
        epilog=f"Shapes: {', '.join(NAMED_SHAPES)}, or NxMxd such as 3136x784x256.",
    )
    add = parser.add_argument
    default_modes = "embedded_gaussian,dot_product,concatenation"
    add("--shapes", type=shapes, default=DEFAULT_SHAPES)
    add("--modes", type=choices_of(MODES), default=default_modes)
    add("--peers", type=choices_of(PEERS), default=",".join(PEERS))
    add("--algorithms", type=lambda t: t.split(","), default="auto", help="our forms")
    add("--dtype", choices=TOLERANCE, default="float32")
    return parse(parser, QUICK)


def shapes(text):
    try:
        return [parse_shape(name) for name in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def measure(args, clock, report, mode, shape):
    """Prints the rows of a mode; returns the errors."""
    subjects = {
        key: subject(args, key, mode, shape)
        for key in [f"ours:{name}" for name in args.algorithms] + args.peers
        if mode in form(key).modes and fits(key, mode, shape, args.dtype)
    }
    measured = clock.measure(subjects)
    expected = None
    if args.only != "memory":
        dense = make(DENSE, mode, "float32", shape)
        expected = clock.values(Subject("the dense form", *dense))
    first, results = next(iter(measured.values())), tensors_mib(shape, mode, args.dtype)
    disagreeing = []
    for key, found in measured.items():
        error = relative_error(found.values, expected)
        report.add(f"{shape}, {args.dtype}, {mode}, {key}", found.figures)
        print_row([mode, form(key).label, *cells(found, first, results, error)])
        if error is not None and not error < TOLERANCE[args.dtype]:
            disagreeing.append(f"{form(key).label}, {mode}, {shape}: {error:.1e}")
    return disagreeing


def subject(args, key, mode, shape):
    is_torch = form(key).framework == "torch"
    python = args.peer_python if is_torch else sys.executable
    made = make(key, mode, args.dtype, shape)
    return Subject(form(key).label, *made, python=python, is_peer=is_torch)


def make(key, mode, dtype, shape):
    return "harness.operation:make", (key, mode, dtype, shape)


def fits(key, mode, shape, dtype):
    """Whether a form that needs much memory has it."""
    builds_pairs = key == "published" and mode == "concatenation"
    return not builds_pairs or machine.pairs_fit(shape, dtype)


def cells(found, first, results, error):
    """Of one form, relative to our first; all have `results` MiB."""
    times = []
    for name in (f"{FORWARD} ms", f"{BOTH} ms"):
        time, ours = found.figures.get(name), first.figures.get(name)
        times += [number(time), number(ratio(time, ours))]
    peaks = [found.figures.get(f"{name} MiB") for name in (FORWARD, BOTH)]
    beyond = max(peaks[1].median - results, 0.0) if peaks[1] else None
    return [*times, *map(number, (*peaks, beyond)), scientific(error)]


if __name__ == "__main__":
    main()
