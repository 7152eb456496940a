"""Times of one form of the operation, in a process that runs nothing else.

    python -m harness.op_times SUBJECT MODE DTYPE NxMxd REPEATS SECONDS

prints the medians [forward, forward + backward] as JSON, in ms. `alone` starts it.
In a process with other forms, memory that a form frees is returned to the system while
the others run, and its next call pays for it; alone, as in a training, it is reused.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from harness.machine import use_all_threads
from harness.measure import medians
from harness.op_subjects import subject
from harness.operands import operands, parse_shape
from harness.processes import run_module


def alone(key, mode, dtype, shape, repeats, seconds):
    """[forward, forward + backward] ms; None if the process ran out of memory."""
    sizes = "x".join(map(str, shape))
    arguments = (key, mode, dtype, sizes, str(repeats), str(seconds))
    return run_module("harness.op_times", *arguments, environment={})


def main(key, mode, dtype, shape, repeats, seconds):
    measured = subject(key)
    use_all_threads(measured.framework)
    steps = measured.steps(mode, *operands(parse_shape(shape), mode), dtype)
    print(json.dumps([_median(s, int(repeats), float(seconds)) for s in steps[:2]]))


def _median(step, repeats, seconds):
    step()  # traces and compiles, and obtains the memory
    return medians({"alone": step}, repeats, seconds)["alone"]


if __name__ == "__main__":
    main(*sys.argv[1:])
