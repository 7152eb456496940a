"""Detection in one image, or a training step, beside torchvision with the same weights.

    python benchmarks/detection.py [--train] [--networks maskrcnn] [--size 800x800]
        [--turns 5] [--peer-python PYTHON] [--compile]

Both detect the same 100 objects, from the uint8 image to masks in its pixels or to
keypoints. With `--train`, both make a step of SGD with two images of eight objects:
normalisation, conv1 and res2 are frozen. Each library is in a process of its own; they
take turns, and in each turn the second of two calls counts. Shown are the fastest turn,
and the median of the ratios within a turn, of the time and of the CPU time.

Memory is the peak of a call in the steady state, in another process, where freed memory
goes back to the system at once: above the process with its libraries, and of the whole
process since its start.

torchvision is measured by `--peer-python`, an interpreter that imports it beside a CPU
build of PyTorch: without it, ours is measured alone. `--compile` measures its
`torch.compile` as well, which takes minutes.
"""

import argparse
import os
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from harness import machine
from harness.detection_networks import NETWORKS
from harness.options import choices_of
from harness.processes import Worker, run_module
from harness.tables import QUICK_NOTE, number, print_header, print_row

SIZES = {"detection": "800x800", "training": "512x512"}
RESULTS = {"detection": "detections", "training": "loss"}
QUICK_SIZE = "64x96"


def main():
    args = parse_arguments()
    print(f"{machine.machine_line()} float32, {args.size}, {args.threads} threads.\n")
    print(f"\n{QUICK_NOTE}" if args.quick else "")
    times = "seconds", "of torchvision", "CPU seconds", "of torchvision"
    memory = "above the libraries, MiB", "the process, MiB"
    print_header(("network", "library", RESULTS[args.task], *times, *memory))
    for network in args.networks:
        for cells in rows(network, args):
            print_row((network, *cells))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--train", action="store_true", help="a training step instead of detection")
    add("--networks", type=choices_of(NETWORKS), default=",".join(NETWORKS))
    add("--size", help="HxW of the images; default 800x800, of training 512x512")
    add("--turns", type=int, default=5)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--peer-python", help="an interpreter that imports torchvision")
    add("--compile", action="store_true", help="torchvision compiled, too")
    add("--quick", action="store_true", help="smoke test: one turn, tiny images")
    args = parser.parse_args()
    args.task = "training" if args.train else "detection"
    args.size = args.size or SIZES[args.task]
    if args.quick:
        args.size, args.turns = QUICK_SIZE, 1
    if args.turns < 1 or args.threads < 1:
        parser.error("--turns and --threads: expected positive numbers")
    return args


def rows(network, args):
    """The cells of each library."""
    pythons = {"ours": sys.executable}
    if args.peer_python:
        pythons["torchvision"] = args.peer_python
    if args.peer_python and args.compile:
        pythons["compiled"] = args.peer_python
    commands = {
        subject: ("harness.detection_run", subject, network, args.size)
        + (str(args.threads), args.task)
        for subject in pythons
    }
    turns = take_turns(commands, pythons, args.turns)
    for subject, python in pythons.items():
        peaks = run_module(*commands[subject], "memory", python=python)
        yield subject, *times_of(subject, turns), *map(number, peaks)


def take_turns(commands, pythons, count):
    """Of each turn subject -> (seconds, seconds of CPU, result)."""
    workers = {
        subject: Worker(*command, python=pythons[subject])
        for subject, command in commands.items()
    }
    turns = [{x: worker.turn() for x, worker in workers.items()} for _ in range(count)]
    for worker in workers.values():
        worker.close()
    return turns


def times_of(subject, turns):
    """Cells: the result; time and its ratio; CPU time and its ratio."""
    cells = [f"{turns[0][subject][2]:.4g}"]
    for i in (0, 1):
        cells.append(number(min(turn[subject][i] for turn in turns)))
        ratios = [
            turn[subject][i] / turn["torchvision"][i]
            for turn in turns
            if "torchvision" in turn
        ]
        cells.append(f"{statistics.median(ratios):.2f}" if ratios else "-")
    return cells


if __name__ == "__main__":
    main()
