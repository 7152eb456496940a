"""Options, tables and checks of the benchmarks of whole networks."""

import math
import os
import sys
import tempfile
from typing import NamedTuple

from harness import machine
from harness.clock import Clock, Figure
from harness.networks import BLOCKS, NETWORKS, OURS, PASSES, POLICIES, THEIRS, Case
from harness.networks import label as label_of
from harness.operation import relative_error
from harness.options import choices_of, clock_parser, parse, positive
from harness.report import (
    Report,
    number,
    print_header,
    print_row,
    ratio,
    scientific,
)
from harness.workers import CannotRun, Subject, call

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-1}
NO_PEER = "none"
COMPARED = {"inference": "logits", "training": "loss and gradient norm"}
QUICK = {"depth": 14, "width": 8, "frames": 8, "side": 96}
SIDES = {"quick": 256, "cpu": 2048, "gpu": 8192}  # of a matrix
HEADER = ("network", "form", "ms", "x ours", "peak MiB", "% of products")
LEGEND = """
ms: median of {kind} on {batch} x {frames} x {side} x {side}.
x ours: by that of our fastest form.
peak MiB: by how much a process that runs this form alone grows above its libraries,
weights included; freed memory goes back to the system at once.
% of products: {passes} x the operations of a forward pass, two a multiply-add, by the
rate of a large matrix product in this run.
error: of the {compared}, against the peer run eagerly in float32.
Last line of a network: its fastest peer by our fastest form.
"""


class Row(NamedTuple):
    """One form: milliseconds and MiB, each a `Figure`, and the error of its values."""

    key: str
    ms: Figure | None
    peak: Figure | None
    error: float | None


def main(kind, script, description, defaults):
    """Prints the tables; exits with an error where values disagree.

    Args:
        kind: `"inference"` or `"training"`.
        script: Its path.
        description: Of the script, for `--help`.
        defaults: Of the options, by name.
    """
    args = parse_arguments(kind, description, defaults)
    report, watch = Report(script, args), Clock(args)
    sizes = {name: getattr(args, name) for name in ("batch", "frames", "side")}
    print(
        LEGEND.format(kind=kind, passes=PASSES[kind], compared=COMPARED[kind], **sizes)
    )
    disagreeing = []
    for dtype in args.dtypes:
        rate = matrix_rate(args, watch, report, dtype)
        print(f"**{dtype}**: a large matrix product runs at {number(rate)} GFLOP/s.\n")
        print_header((*HEADER, f"error of {COMPARED[kind]}"))
        for network in args.models:
            case = _case(args, network, dtype)
            gflop = count_gflop(kind, case)
            rows = measure(args, watch, report, kind, case)
            print_rows(kind, rows, network, gflop / rate if rate else None)
            disagreeing += _disagreeing(kind, rows, case)
        print()
    report.finish(watch.loads)
    if disagreeing:
        sys.exit("error: not the values of the peer: " + "; ".join(disagreeing))


def parse_arguments(kind, description, defaults):
    parser = clock_parser(description, rounds=9, seconds=60)
    add = parser.add_argument
    peers = [key for key, form in THEIRS[kind].items() if not form.autocast]
    add("--models", type=choices_of(NETWORKS), default=",".join(NETWORKS))
    add("--dtypes", type=choices_of(POLICIES), default=",".join(POLICIES))
    add("--forms", type=choices_of(OURS[kind]), default=",".join(OURS[kind]))
    add(
        "--peers",
        type=choices_of([*THEIRS[kind], NO_PEER]),
        default=",".join(peers),
        help=f"of {', '.join(THEIRS[kind])}; or {NO_PEER}, and no values compared",
    )
    add("--depth", type=int, choices=BLOCKS, default=50)
    add("--width", type=positive, default=64, help="channels after conv1")
    for name, default in defaults.items():
        add(f"--{name}", type=positive, default=default)
    if kind == "training":
        add("--recompute", action="store_true", help="activations, in backward")
    args = parse(parser, QUICK)
    if getattr(args, "recompute", False) and BACKEND != "tensorflow":
        parser.error("--recompute is the trainer's: it needs KERAS_BACKEND=tensorflow")
    return args


def _case(args, network, dtype):
    sizes = {name: getattr(args, name) for name in Case._fields[2:-1]}
    return Case(network, dtype, **sizes, recompute=getattr(args, "recompute", False))


def count_gflop(kind, case):
    """GFLOP of a step; exits with an error if the network cannot be built."""
    count = Subject("the network", "harness.networks:operations", (kind, case))
    try:
        return call(count) / 1e9
    except CannotRun as error:
        sys.exit(f"error: {error}")


def matrix_rate(args, watch, report, dtype):
    """GFLOP/s of a large square product, in the fastest framework."""
    if args.only == "memory":
        return None
    side = SIDES["quick" if args.quick else machine.device()]
    pythons = {BACKEND: sys.executable}
    if args.peers != [NO_PEER]:
        pythons["torch"] = args.peer_python
    subjects = {
        name: Subject(
            f"{name}'s product",
            "harness.matrix_product:make",
            (name, dtype, side),
            python,
            is_peer=name == "torch",
        )
        for name, python in pythons.items()
    }
    measured = watch.measure(subjects, memory=False)
    for name, found in measured.items():
        report.add(f"product of {side}, {dtype}, {name}", found.figures)
    times = [found.figures["product ms"].median for found in measured.values()]
    return 2 * side**3 / min(times) / 1e6


def measure(args, watch, report, kind, case):
    """A `Row` for each form, ours first."""
    with tempfile.TemporaryDirectory(dir=watch.folder) as folder:
        subjects, expected = subjects_of(args, watch, kind, case, folder)
        measured = watch.measure(subjects)
    rows = []
    for key, (figures, values) in measured.items():
        error = relative_error(values, expected)
        rows.append(
            Row(key, figures.get(f"{kind} ms"), figures.get(f"{kind} MiB"), error)
        )
        report.add(", ".join(map(str, (*case, key))), figures)
    return rows


def subjects_of(args, watch, kind, case, folder):
    """The forms, all with the same weights; and the expected values, if any."""
    peers = [key for key in args.peers if key != NO_PEER]
    weights = None
    if peers:
        weights = save_weights(args, watch, case, f"{folder}/weights.npz")
    subjects = {}
    for key in args.forms:
        source = weights
        if (kind, BACKEND) == ("inference", "tensorflow"):
            source = f"{folder}/{key}"
            arguments = (key, case, weights, source)
            call(Subject(key, "harness.network_tensorflow:export", arguments))
        made = f"harness.network_{BACKEND}:make", (kind, key, case, source)
        subjects[key] = Subject(label_of(kind, key), *made)
    if weights is None:
        return subjects, None
    for key in peers:
        subjects[key] = torch_form(args, kind, key, case)
    if args.only == "memory":
        return subjects, None
    eager = torch_form(args, kind, "eager", case._replace(dtype="float32"), "cpu")
    return subjects, watch.values(eager)


def save_weights(args, watch, case, path):
    """The file of the peer's weights, or None if there is no peer."""
    arguments = "harness.network_torch:save_weights", (case, path), args.peer_python
    saved = watch.attempt(Subject("PyTorch", *arguments, is_peer=True))
    return None if saved is None else path


def torch_form(args, kind, key, case, *place):
    arguments = (kind, key, case, *place)
    made = "harness.network_torch:make", arguments, args.peer_python
    return Subject(label_of(kind, key), *made, is_peer=True)


def print_rows(kind, rows, network, least):
    """One line per form, and one for the fastest of both sides.

    Args:
        kind: `"inference"` or `"training"`.
        rows: `Row`s.
        network: Name.
        least: Seconds that a large matrix product of as many operations takes, or None.
    """
    ours, theirs = _fastest(kind, rows)
    for row in rows:
        percent = 100 * least / (row.ms.median / 1e3) if row.ms and least else None
        cells = row.ms, ratio(row.ms, ours and ours.ms), row.peak, percent
        cells = [*map(number, cells), scientific(row.error)]
        print_row([network, label_of(kind, row.key), *cells])
    if ours and theirs:
        times, peaks = ratio(theirs.ms, ours.ms), ratio(theirs.peak, ours.peak)
        cells = ["", f"**{times:.2f}**", f"x {peaks:.2f}" if peaks else "", "", ""]
        print_row([network, "**fastest peer / ours**", *cells])


def _fastest(kind, rows):
    """Of ours, and of the peers; None without times."""
    rows = [row for row in rows if row.ms]
    ours = [row for row in rows if row.key in OURS[kind]]
    theirs = [row for row in rows if row.key not in OURS[kind]]
    by_time = {"key": lambda row: row.ms.median, "default": None}
    return min(ours, **by_time), min(theirs, **by_time)


def _disagreeing(kind, rows, case):
    """Our forms with an error above the tolerance and above twice the peer's."""
    peers = [2 * row.error for row in rows if row.key == "eager" and row.error]
    allowed = max(TOLERANCE[case.dtype], *filter(math.isfinite, peers), 0)
    return [
        f"{label_of(kind, row.key)}, {case.network}, {case.dtype}: {row.error:.1e}"
        for row in rows
        if row.key in OURS[kind] and row.error is not None and not row.error < allowed
    ]
