"""Time of whole non-local blocks, in training and inference, beside PyTorch's.

    python benchmarks/non_local_block.py [--maps res3] [--modes dot_product]

A block is theta, phi, g, pooling, the operation, W_z, batch normalisation and the
sum. The peers are written from the published formulas of PySlowFast, AlexHex7's
Non-local_pytorch and mmcv; our layer gets the conventions and weights of each, and
the values are compared (errors of z, dx and all weight gradients, against the peer
in float32). The clock: harness/clock.py.
"""

import itertools
import sys

from harness import machine
from harness.block import CONVENTIONS, Case
from harness.clock import Clock
from harness.operation import MODES, relative_error
from harness.options import choices_of, clock_parser, parse
from harness.report import (
    Report,
    number,
    print_header,
    print_row,
    scientific,
)
from harness.workers import Subject

TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-1}
# Frames, height, width and channels; an 8x8 clip of 224x224 has the first two.
MAPS = {"res3": (4, 28, 28, 512), "res4": (4, 14, 14, 1024), "tiny": (2, 6, 6, 16)}
OURS = "ours"
# (channels_last, compiled)
PEERS = {
    "contiguous": (False, False),
    "channels last": (True, False),
    "compiled": (True, True),
}
FORMS = (OURS, *PEERS)
HEADER = (
    "map",
    "mode",
    "block of",
    "step",
    *(f"{form}, ms" for form in FORMS),
    "fastest peer / ours",
    "our error",
    "largest error of the peer",
)


def main():
    args = parse_arguments()
    report, watch = Report(__file__, args), Clock(args)
    disagreeing = []
    for dtype in args.dtypes:
        print(f"**{dtype}**, batch 1\n")
        print_header(HEADER)
        for name, mode, convention in cases(args, dtype):
            case = Case(mode, convention, dtype, *MAPS[name])
            disagreeing += measure(args, watch, report, name, case)
        print()
    report.finish(watch.loads)
    if disagreeing:
        sys.exit("error: not the values of the peer: " + "; ".join(disagreeing))


def parse_arguments():
    parser = clock_parser(__doc__, rounds=9, seconds=20, memory=False)
    add = parser.add_argument
    add("--maps", type=choices_of(MAPS), default="res3,res4")
    add("--modes", type=choices_of(MODES), default=",".join(MODES))
    add("--peers", type=choices_of(CONVENTIONS), default=",".join(CONVENTIONS))
    add("--dtypes", type=choices_of(TOLERANCE), default="float32,bfloat16")
    add("--compile", action="store_true", help="torch.compile, channels last, too")
    return parse(parser, {"maps": ["tiny"]})


def cases(args, dtype):
    """(map, mode, peer), without combinations that a peer does not have."""
    for name, mode, peer in itertools.product(args.maps, args.modes, args.peers):
        case = Case(mode, peer, dtype, *MAPS[name])
        fits = machine.pairs_fit(case.op_shape, dtype) or mode != "concatenation"
        if mode in CONVENTIONS[peer].modes and fits:
            yield name, mode, peer


def measure(args, watch, report, name, case):
    """Prints the lines of one case; returns our error if it is too large."""
    subjects, expected = subjects_of(args, watch, case)
    measured = watch.measure(subjects)
    errors = {k: relative_error(m.values, expected) for k, m in measured.items()}
    errors = {k: error for k, error in errors.items() if error is not None}
    peers_error = max((e for k, e in errors.items() if k != OURS), default=None)
    line = name, case.mode, case.convention
    for step in ("inference", "training"):
        times = {k: m.figures.get(f"{step} ms") for k, m in measured.items()}
        report.add(", ".join((*line, case.dtype, step)), times)
        cells = [number(times.get(form)) for form in FORMS]
        cells += [fastest(times), scientific(errors.get(OURS)), scientific(peers_error)]
        print_row([*line, step, *cells])
    largest = max(TOLERANCE[case.dtype], 2 * (peers_error or 0))
    if OURS not in errors or errors[OURS] < largest:
        return []
    return [f"{', '.join(line)}, {case.dtype}: {errors[OURS]:.1e}"]


def subjects_of(args, watch, case):
    """The forms, all with the same weights; and the expected values, if any."""
    ours = Subject(OURS, "harness.block:make_ours", (case,))
    weights = str(watch.folder / "weights.npz")
    saving = "harness.block_peers:save_weights", (case, weights), args.peer_python
    if watch.attempt(Subject("PyTorch", *saving, is_peer=True)) is None:
        return {OURS: ours}, None
    subjects = {OURS: ours._replace(arguments=(case, weights))}
    for form, options in PEERS.items():
        if form != "compiled" or args.compile:
            subjects[form] = torch_block(args, form, case, *options)
    reference = case._replace(dtype="float32")
    return subjects, watch.values(torch_block(args, "the reference", reference))


def torch_block(args, label, case, *options):
    arguments = (case, *options)
    return Subject(label, "harness.block_peers:make", arguments, args.peer_python, True)


def fastest(times):
    """The time of the fastest peer over ours."""
    peers = [x.median for form, x in times.items() if form != OURS]
    return number(min(peers) / times[OURS].median) if peers else "-"


if __name__ == "__main__":
    main()
