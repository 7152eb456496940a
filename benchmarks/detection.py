"""Detection in one image, or a training step, beside torchvision with the same weights.

    python benchmarks/detection.py [--train] [--networks maskrcnn] [--size 800x800]
        [--peer-python PYTHON] [--compile]

Both detect the same 100 objects, from the uint8 image to masks in its pixels or to
keypoints. With `--train`, both make a step of SGD with two images of eight objects:
normalisation, conv1 and res2 are frozen. Memory is the peak of a call in the steady
state, above the process with its libraries, and of the whole process since its start.
The clock: harness/clock.py.

torchvision is measured by `--peer-python`, an interpreter that imports it beside a CPU
build of PyTorch: without it, ours is measured alone. `--compile` measures its
`torch.compile` as well, which takes minutes.
"""

import os
import sys

from harness.clock import Clock
from harness.detection_networks import NETWORKS
from harness.options import choices_of, clock_parser, parse, positive
from harness.report import Report, number, print_header, print_row, ratio
from harness.workers import Subject

SIZES = {"detection": "800x800", "training": "512x512"}
RESULTS = {"detection": "detections", "training": "loss"}
QUICK = {"size": "64x96"}


def main():
    args = parse_arguments()
    report, clock = Report(__file__, args), Clock(args)
    print(f"float32, {args.size}, {args.threads} threads\n")
    times = "ms", "of torchvision", "CPU ms", "of torchvision"
    memory = "above the libraries, MiB", "the process, MiB"
    print_header(("network", "library", RESULTS[args.task], *times, *memory))
    for network in args.networks:
        measured = clock.measure(subjects(args, network))
        peer = measured["torchvision"].figures if "torchvision" in measured else {}
        for library, found in measured.items():
            row = ", ".join((network, args.task, args.size, library))
            report.add(row, found.figures)
            print_row((network, library, *cells(args.task, found, peer)))
    report.finish(clock.loads)


def parse_arguments():
    parser = clock_parser(__doc__, rounds=7, seconds=180)
    add = parser.add_argument
    add("--train", action="store_true", help="a training step instead of detection")
    add("--networks", type=choices_of(NETWORKS), default=",".join(NETWORKS))
    add("--size", help="HxW of the images; default 800x800, of training 512x512")
    add("--threads", type=positive, default=len(os.sched_getaffinity(0)))
    add("--compile", action="store_true", help="torchvision compiled, too")
    args = parse(parser, QUICK)
    args.task = "training" if args.train else "detection"
    args.size = args.size or SIZES[args.task]
    return args


def subjects(args, network):
    arguments = network, args.size, args.threads, args.task
    ours, theirs = (f"harness.detection_{x}:make" for x in ("ours", "torchvision"))
    found = {"ours": Subject("ours", ours, arguments, sys.executable)}
    for library in ("torchvision", *["compiled"] * args.compile):
        options = (*arguments, library == "compiled")
        found[library] = Subject(library, theirs, options, args.peer_python, True)
    return found


def cells(task, found, peer):
    """The result; time and its ratio; CPU time and its ratio; memory."""
    figures = found.figures
    cells = [f"{float(found.values[0]):.4g}" if found.values else "-"]
    for name in (f"{task} ms", f"{task} CPU ms"):
        share = ratio(figures.get(name), peer.get(name))
        cells += [number(figures.get(name)), f"{share:.2f}" if share else "-"]
    return cells + [number(figures.get(x)) for x in (f"{task} MiB", "process MiB")]


if __name__ == "__main__":
    main()
