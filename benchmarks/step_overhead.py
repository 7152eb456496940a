"""What a training step costs beyond its graph.

    python benchmarks/step_overhead.py [--steps 5000]

A network of one neuron, whose graph takes little time, is trained by the trainer of
`trainers/video.py`. Its compiled step is also called alone, on one batch, not reading
its results. The difference is the time of the host: input, results, progress, signals.
Each in a process of its own; medians over loops of 100 steps.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from harness import machine
from harness.options import positive
from harness.processes import run_module
from harness.tables import QUICK_NOTE, print_header, print_row

SUBJECTS = {"graph": "its graph alone", "trainer": "the trainer"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--steps", type=positive, default=5000, help="rounded up to loops of 100")
    add("--quick", action="store_true", help="smoke test: one loop")
    args = parser.parse_args()
    loops = 1 if args.quick else -(-args.steps // 100)
    print(f"{machine.machine_line()}\n")
    print(f"{QUICK_NOTE}" if args.quick else "")
    print_header(("a step", "microseconds"))
    for key, name in SUBJECTS.items():
        print_row((name, f"{run_module('harness.tiny_step', key, str(loops)):.0f}"))


if __name__ == "__main__":
    main()
