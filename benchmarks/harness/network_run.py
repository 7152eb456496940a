"""Options, turns, tables and checks of the benchmarks of whole networks."""

import argparse
import gc
import math
import sys
from typing import NamedTuple

from harness import machine, matrix_peak, network_memory
from harness.measure import medians
from harness.network_forms import OURS, THEIRS, build, exports, label
from harness.networks import BLOCKS, NETWORKS, POLICIES, Case, backend, multiply_adds
from harness.operands import relative_error
from harness.options import choices_of, positive
from harness.tables import QUICK_NOTE, number, print_header, print_row, scientific

TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-1}
PASSES = {"inference": 1, "training": 3}  # in units of the forward pass
NO_PEER = "none"
COMPARED = {"inference": "logits", "training": "loss and gradient norm"}
QUICK = {"depth": 14, "width": 8, "frames": 8, "side": 96, "repeats": 3}
HEADER = ("network", "form", "ms", "x ours", "peak MiB", "% of products")
LEGEND = """
ms: median of {kind} on {batch} x {frames} x {side} x {side}.
x ours: by that of our fastest form.
peak MiB: by how much a process that runs this form alone grows above its libraries,
weights included{loaded}; freed memory goes back to the system at once.
% of products: {passes} x the operations of a forward pass, two a multiply-add, by the
rate of a large matrix product in this run.
error: of the {compared}, against the peer run eagerly in float32.
Last line of a network: its fastest peer by our fastest form."""


class Row(NamedTuple):
    """One form: milliseconds, MiB, and the error of its values."""

    key: str
    ms: float
    peak: float | None
    error: float | None


def main(kind, description, defaults):
    """Prints the tables; exits with an error where values disagree.

    Args:
        kind: `"inference"` or `"training"`.
        description: Of the script, for `--help`.
        defaults: Of the options, by name.
    """
    args = parse_arguments(kind, description, defaults)
    machine.use_all_threads(backend(), *("torch",) * machine.installed("torch"))
    print(machine.machine_line(), end="\n\n")
    keys = [*args.forms, *_runnable(kind, args.peers)]
    disagreeing = []
    for dtype in args.dtypes:
        rate = matrix_peak.gflops(dtype, small=args.quick)
        print(f"**{dtype}**: a large matrix product runs at {rate:,.0f} GFLOP/s.\n")
        print_header((*HEADER, f"error of {COMPARED[kind]}"))
        for network in args.models:
            case = _case(args, network, dtype)
            gflop = _gflop(kind, case)
            rows = measure(args, kind, keys, case)
            print_rows(kind, rows, network, gflop / rate)
            disagreeing += _disagreeing(kind, rows, case)
        print()
    print(QUICK_NOTE if args.quick else _legend(kind, args))
    if disagreeing:
        sys.exit("error: not the values of the peer: " + "; ".join(disagreeing))


def parse_arguments(kind, description, defaults):
    parser = argparse.ArgumentParser(description=description)
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
    for name in ("batch", "frames", "side"):
        add(f"--{name}", type=positive, default=defaults[name])
    if kind == "training":
        add("--recompute", action="store_true", help="activations, in backward")
    add("--repeats", type=positive, default=15, help="turns at most")
    add("--seconds", type=float, default=defaults["seconds"], help="per network")
    add("--no-memory", action="store_true", help="times only")
    add("--quick", action="store_true", help="smoke test: tiny networks and clips")
    args = parser.parse_args()
    if getattr(args, "recompute", False) and backend() != "tensorflow":
        parser.error("--recompute is the trainer's: it needs KERAS_BACKEND=tensorflow")
    if args.quick:
        vars(args).update(QUICK)
    return args


def _runnable(kind, keys):
    """The peers that can run here; prints why the others cannot."""
    keys = [key for key in keys if key != NO_PEER]
    if not keys:
        return []
    if not machine.installed("torch"):
        print("PyTorch is not installed (extra [backends]): ours only.\n")
        return []
    compiled = [key for key in keys if THEIRS[kind][key].compile is not None]
    reason = machine.why_no_compile() if compiled else None
    if reason:
        print(f"torch.compile does not work here ({reason}): left out.\n")
        return [key for key in keys if key not in compiled]
    return keys


def _case(args, network, dtype):
    names = Case._fields[2:-1]
    sizes = {name: getattr(args, name) for name in names}
    return Case(network, dtype, **sizes, recompute=getattr(args, "recompute", False))


def _gflop(kind, case):
    """GFLOP of a step; exits with an error if the network cannot be built."""
    import keras

    filtered = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()  # it wraps messages, too
    try:
        return 2 * PASSES[kind] * multiply_adds(case) / 1e9
    except ValueError as error:
        sys.exit(f"error: {error}")
    finally:
        if filtered:
            keras.config.enable_traceback_filtering()


def measure(args, kind, keys, case):
    """A `Row` for each form, ours first."""
    peaks = {}
    if not args.no_memory:
        peaks = {key: network_memory.peak(kind, key, case) for key in keys}
    state, expected = None, None
    if any(key in THEIRS[kind] for key in keys):
        state, expected = _the_peer(kind, case)
    steps = {key: build(kind, key, case, state) for key in keys}
    values = {key: step.values() for key, step in steps.items()}
    ms = medians({k: s.run for k, s in steps.items()}, args.repeats, args.seconds)
    errors = {}
    if expected is not None:
        errors = {key: relative_error(values[key], expected) for key in keys}
    return [Row(key, ms[key], peaks.get(key), errors.get(key)) for key in keys]


def _the_peer(kind, case):
    """Weights, and the expected values."""
    gc.collect()
    from harness import network_torch

    network_torch.forget_compiled()
    expected = network_torch.expected(kind, THEIRS[kind]["eager"], case)
    return network_torch.state_of(case), expected


def print_rows(kind, rows, network, least):
    """One line per form, and one for the fastest of both sides.

    Args:
        kind: `"inference"` or `"training"`.
        rows: `Row`s.
        network: Name.
        least: Seconds that a large matrix product of as many operations takes.
    """
    ours, theirs = _fastest(kind, rows)
    for row in rows:
        percent = 100 * least / (row.ms / 1e3)
        cells = (row.ms, row.ms / ours.ms, row.peak, percent)
        cells = [*map(number, cells), scientific(row.error)]
        print_row([network, label(kind, row.key), *cells])
    if theirs:
        peak = ""
        if theirs.peak and ours.peak:
            peak = f"x {theirs.peak / ours.peak:.2f}"
        cells = ["", f"**{theirs.ms / ours.ms:.2f}**", peak, "", ""]
        print_row([network, "**fastest peer / ours**", *cells])


def _fastest(kind, rows):
    """Of ours, and of the peers (or None)."""
    ours = [row for row in rows if row.key in OURS[kind]]
    theirs = [row for row in rows if row.key not in OURS[kind]]
    by_time = {"key": lambda row: row.ms, "default": None}
    return min(ours, **by_time), min(theirs, **by_time)


def _disagreeing(kind, rows, case):
    """Our forms with an error above the tolerance and above twice the peer's."""
    peers = [2 * row.error for row in rows if row.key == "eager" and row.error]
    allowed = max(TOLERANCE[case.dtype], *filter(math.isfinite, peers), 0)
    return [
        f"{label(kind, row.key)}, {case.network}, {case.dtype}: {row.error:.1e}"
        for row in rows
        if row.key in OURS[kind] and row.error is not None and not row.error < allowed
    ]


def _legend(kind, args):
    sizes = {name: getattr(args, name) for name in ("batch", "frames", "side")}
    loaded = " (ours from its SavedModel)" if exports(kind, "plain") else ""
    return LEGEND.format(
        kind=kind, loaded=loaded, passes=PASSES[kind], compared=COMPARED[kind], **sizes
    ).strip()
