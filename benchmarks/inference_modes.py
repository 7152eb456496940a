"""Whether `--mode eval` and `--mode predict` run at the speed of the network.

    python benchmarks/inference_modes.py [--batch 5] [--dtype bfloat16]

Three programs score the same clips, from memory, each in a process of its own: the
network of `video_model.py`'s row "batch norm folded" alone, on normalised clips; and
the two modes of `trainers/video.py`, from uint8 views to scores on the host. The
processes take turns in random order, and wait in between. What an evaluation does once,
as folding the present weights, is not counted. CPU time is of all threads; it is what
to compare on a machine that others use as well.
"""

import argparse
import os
import random
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

from harness import machine
from harness.networks import BLOCKS, NETWORKS, POLICIES, Case
from harness.options import positive
from harness.processes import Worker
from harness.tables import QUICK_NOTE, number, print_header, print_row

SUBJECTS = {
    "folded": "the folded network alone",
    "eval": "`--mode eval`",
    "predict": "`--mode predict`",
}
QUICK = {"depth": 14, "width": 8, "frames": 4, "side": 32, "rounds": 1, "batches": 1}


def main():
    args = parse_arguments()
    print(f"{machine.machine_line()}\n")
    sizes = {name: getattr(args, name) for name in Case._fields[2:-1]}
    case = Case(args.model, args.dtype, **sizes)
    times = measure(case, args.batches, args.rounds)
    print_header(("a clip", "CPU ms", "speed", "wall ms", "speed"))
    medians = {
        key: [statistics.median(x) for x in zip(*rows, strict=True)]
        for key, rows in times.items()
    }
    for key, name in SUBJECTS.items():
        cells = []
        for mine, network in zip(medians[key], medians["folded"], strict=True):
            cells += [number(mine), f"{network / mine:.3f}x"]
        print_row([name, *cells])
    print(QUICK_NOTE if args.quick else "")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--model", choices=NETWORKS, default="NL-I3D")
    add("--dtype", choices=POLICIES, default="float32")
    add("--depth", type=int, choices=BLOCKS, default=50)
    add("--width", type=positive, default=64, help="channels after conv1")
    add("--batch", type=positive, default=1, help="views in the network at once")
    add("--frames", type=positive, default=8)
    add("--side", type=positive, default=224)
    add("--batches", type=positive, default=5, help="in a turn")
    add("--rounds", type=positive, default=15)
    add("--quick", action="store_true", help="smoke test: a tiny network and clips")
    args = parser.parse_args()
    if args.quick:
        vars(args).update(QUICK)
    return args


def measure(case, num_batches, rounds):
    """Lists of (CPU, wall) milliseconds a clip, by subject."""
    order = random.Random(0)
    workers = {
        key: Worker("harness.inference_mode", key, repr(tuple(case)), str(num_batches))
        for key in SUBJECTS
    }
    times = {key: [] for key in SUBJECTS}
    for _ in range(rounds):
        for key in order.sample(list(workers), len(workers)):
            times[key].append(workers[key].turn())
    for worker in workers.values():
        worker.close()
    return times


if __name__ == "__main__":
    main()
