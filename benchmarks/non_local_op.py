"""Time and memory of the non-local operation, beside its peers.

    python benchmarks/non_local_op.py [--shapes res3,clip32] [--modes dot_product]

Each peer is written from the published formulas and checked on the same operands
(column "error": the largest relative error of y and of all gradients, against the
dense form in float32). Times are medians: with `--alone` of a process for each form,
else of calls taken turn by turn in this process, where forms that allocate maps pay
for their memory at every turn (harness/op_times.py). Peak memory is the growth of a
process that runs this form alone, above its libraries and operands: in all, and
(forward + backward) beyond y and the gradients, which every form ends with. "Dense" is
PyTorch's dense form there.
"""

import argparse
import itertools
import os
import sys
import warnings
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from harness import machine, op_memory, op_peers, op_times
from harness.measure import medians
from harness.op_subjects import MODES, PEERS, subject
from harness.operands import (
    NAMED_SHAPES,
    operands,
    parse_shape,
    relative_error,
    tensors_mib,
)
from harness.options import choices_of
from harness.tables import QUICK_NOTE, number, print_header, print_row, scientific

DEFAULT_SHAPES = "res4,res4-full,res3,res3-full,clip32"
QUICK_SHAPE = "98x24x16"
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
# The dense form whose peak memory the others are compared with: PyTorch's, without
# the pairs of the concatenation.
BASELINES = ("broadcast", "published")
LEGEND = """\
Times: medians, in ms. "x ours": time over ours. Peaks: MiB above the libraries and
operands. "% of dense": of PyTorch's dense form. "beyond results": forward + backward,
MiB, less y and the gradients. "error": the largest of y and the gradients, relative.
"""
HEADER = (
    "mode",
    "form",
    "forward, ms",
    "x ours",
    "forward + backward, ms",
    "x ours",
    "forward peak, MiB",
    "forward + backward peak, MiB",
    "% of dense",
    "beyond results, MiB",
    "% of dense",
    "error",
)


class Row(NamedTuple):
    """Milliseconds, MiB (forward, forward + backward) and error of one subject."""

    key: str
    times: tuple
    peaks: tuple
    error: float


def main():
    args = parse_arguments()
    machine.use_all_threads("tensorflow", *("torch",) * machine.installed("torch"))
    keys = [f"ours:{name}" for name in args.algorithms] + installed_peers(args.peers)
    print(f"{machine.machine_line()} {args.dtype}, batch 1.\n")
    print(QUICK_NOTE if args.quick else LEGEND)
    peaks = {} if args.no_memory else measure_peaks(args, keys)
    disagreeing = []
    for shape in args.shapes:
        print(f"**{shape}**\n")
        print_header(HEADER)
        for mode in args.modes:
            rows = measure(args, keys, mode, shape, peaks)
            print_rows(mode, rows, tensors_mib(shape, mode, args.dtype))
            disagreeing += [
                f"{subject(row.key).label}, {mode}, {shape}: {row.error:.1e}"
                for row in rows
                if not row.error < TOLERANCE[args.dtype]
            ]
        print()
    if disagreeing:
        sys.exit("error: not the values of the dense form: " + "; ".join(disagreeing))


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        epilog=f"Shapes: {', '.join(NAMED_SHAPES)}, or NxMxd such as 3136x784x256.",
    )

    def shapes(text):
        try:
            return [parse_shape(name) for name in text.split(",")]
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    add = parser.add_argument
    default_modes = "embedded_gaussian,dot_product,concatenation"
    add("--shapes", type=shapes, help=f"default: {DEFAULT_SHAPES}")
    add("--modes", type=choices_of(MODES), default=default_modes)
    add("--peers", type=choices_of(PEERS), default=",".join(PEERS))
    add("--algorithms", type=lambda t: t.split(","), default="auto", help="our forms")
    add("--dtype", choices=TOLERANCE, default="float32")
    add("--repeats", type=int, default=15, help="turns at most")
    add("--seconds", type=float, default=5, help="per mode and direction; >= 3 turns")
    add("--alone", action="store_true", help="each form in a process of its own")
    add("--no-memory", action="store_true", help="times only")
    add("--quick", action="store_true", help="smoke test: a tiny map, three turns")
    args = parser.parse_args()
    args.shapes = args.shapes or shapes(QUICK_SHAPE if args.quick else DEFAULT_SHAPES)
    if args.quick:
        args.repeats = 3
    return args


def installed_peers(keys):
    """The peers that can run here; prints why the others cannot."""
    if not machine.installed("torch"):
        print("PyTorch is not installed (extra [backends]): its forms are left out.\n")
        return [key for key in keys if PEERS[key].framework != "torch"]
    reason = None
    if any(PEERS[key].is_compiled for key in keys):
        reason = machine.why_no_compile()
    if reason:
        print(f"torch.compile does not work here ({reason}): left out.\n")
        return [key for key in keys if not PEERS[key].is_compiled]
    return keys


def measure_peaks(args, keys):
    """Peak MiB by (subject, mode, shape); of those that did not run out of memory."""
    found = {}
    for key, mode, shape in itertools.product(keys, args.modes, args.shapes):
        if mode in subject(key).modes and fits(key, mode, shape, args.dtype):
            progress(f"memory of {subject(key).label}, {mode}, {shape}")
            found[key, mode, shape] = op_memory.peaks(key, mode, args.dtype, shape)
    return {case: peak for case, peak in found.items() if peak}


def fits(key, mode, shape, dtype):
    """Whether a form that needs much memory has it."""
    return key != "published" or op_peers.pairs_fit(mode, shape, dtype)


def measure(args, keys, mode, shape, peaks):
    """A `Row` for each subject that has this mode and fits."""
    keys = [k for k in keys if mode in subject(k).modes]
    keys = [k for k in keys if fits(k, mode, shape, args.dtype)]
    if peaks:
        keys = [k for k in keys if (k, mode, shape) in peaks]
    tensors, dy = operands(shape, mode)
    steps = {k: subject(k).steps(mode, tensors, dy, args.dtype) for k in keys}
    progress(f"{mode} at {shape}")
    errors = errors_of(steps, mode, tensors, dy)
    times = times_alone if args.alone else times_in_turns
    times = times(args, mode, shape, steps)
    return [
        Row(k, times[k], tuple(peaks.get((k, mode, shape), (None, None))), errors[k])
        for k in keys
    ]


def times_alone(args, mode, shape, steps):
    """(forward, forward + backward) ms by subject, each in a process of its own."""
    turns = args.repeats, args.seconds
    measured = {k: op_times.alone(k, mode, args.dtype, shape, *turns) for k in steps}
    return {k: tuple(times or (None, None)) for k, times in measured.items()}


def times_in_turns(args, mode, shape, steps):
    """The same in this process, by turns."""
    forward = {k: s.forward for k, s in steps.items()}
    training = {k: s.forward_backward for k, s in steps.items()}
    forward = medians(forward, args.repeats, args.seconds)
    training = medians(training, args.repeats, args.seconds)
    return {k: (forward[k], training[k]) for k in steps}


def errors_of(steps, mode, tensors, dy):
    """Error of y and its gradients by subject; also the first call of each."""
    dense = PEERS["keras"].steps(mode, tensors, dy, "float32")
    expected = dense.to_numpy(dense.forward_backward())
    errors = {}
    for key, (forward, forward_backward, to_numpy) in steps.items():
        results = to_numpy([forward()]) + to_numpy(forward_backward())
        errors[key] = relative_error(results, [expected[0], *expected])
    return errors


def print_rows(mode, rows, results):
    """One line per subject, relative to our first; all have `results` MiB."""
    peaks = {row.key: row.peaks[1] for row in rows}
    dense = next((peaks[key] for key in BASELINES if key in peaks), None)
    ours = rows[0].times
    for row in rows:
        peak = row.peaks[1]
        cells = (
            row.times[0],
            over(row.times[0], ours[0]),
            row.times[1],
            over(row.times[1], ours[1]),
            *row.peaks,
            percent(peak, dense),
            beyond(peak, results),
            percent(beyond(peak, results), beyond(dense, results)),
        )
        label = subject(row.key).label
        print_row([mode, label, *map(number, cells), scientific(row.error)])


def beyond(peak, results):
    return None if peak is None else max(peak - results, 0.0)


def over(time, ours):
    return time / ours if time and ours else None


def percent(part, whole):
    return 100 * part / whole if part is not None and whole else None


def progress(text):
    if sys.stderr.isatty():
        print(f"... {text}", file=sys.stderr)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="torch")
    main()
