"""Detection in one image, beside torchvision with the same weights.

    python benchmarks/detection.py [--networks maskrcnn] [--size 800x800] [--turns 5]
        [--peer-python PYTHON]

Both detect the same 100 objects, from the uint8 image to masks in its pixels or to
keypoints. Each library is in a process of its own; they take turns, and in each turn
the second of two calls counts. The fastest turn is shown, and the peak memory of the
process, libraries included.

torchvision is measured by `--peer-python`, an interpreter that imports it beside a CPU
build of PyTorch: without it, ours is measured alone. `--compile` measures its
`torch.compile` as well, which takes minutes.
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from harness import machine
from harness.detection_networks import NETWORKS
from harness.options import choices_of
from harness.processes import Worker
from harness.tables import QUICK_NOTE, number, print_header, print_row

HEADER = ("network", "library", "detections", "seconds", "of torchvision", "peak, MiB")
QUICK_SIZE = "64x96"


def main():
    args = parse_arguments()
    print(f"{machine.machine_line()} float32, {args.size}, {args.threads} threads.\n")
    print(f"\n{QUICK_NOTE}" if args.quick else "")
    print_header(HEADER)
    for network in args.networks:
        measured = measure(network, args)
        theirs = measured.get("torchvision")
        for subject, (seconds, peak, count) in measured.items():
            share = f"{seconds / theirs[0]:.2f}" if theirs else "-"
            cells = (number(seconds), share, number(peak))
            print_row((network, subject, str(count), *cells))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--networks", type=choices_of(NETWORKS), default=",".join(NETWORKS))
    add("--size", default="800x800", help="HxW of the image")
    add("--turns", type=int, default=5)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--peer-python", help="an interpreter that imports torchvision")
    add("--compile", action="store_true", help="torchvision compiled, too")
    add("--quick", action="store_true", help="smoke test: one turn, a tiny image")
    args = parser.parse_args()
    if args.quick:
        args.size, args.turns = QUICK_SIZE, 1
    if args.turns < 1 or args.threads < 1:
        parser.error("--turns and --threads: expected positive numbers")
    return args


def measure(network, args):
    """Subject -> [seconds of the fastest turn, peak MiB, detections]."""
    pythons = {"ours": sys.executable}
    if args.peer_python:
        pythons["torchvision"] = args.peer_python
    if args.peer_python and args.compile:
        pythons["compiled"] = args.peer_python
    options = ("harness.detection_run", "{}", network, args.size, str(args.threads))
    workers = {
        subject: Worker(*(x.format(subject) for x in options), python=python)
        for subject, python in pythons.items()
    }
    turns = [
        {subject: worker.turn() for subject, worker in workers.items()}
        for _ in range(args.turns)
    ]
    for worker in workers.values():
        worker.close()
    return {subject: min(turn[subject] for turn in turns) for subject in workers}


if __name__ == "__main__":
    main()
