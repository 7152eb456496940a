"""Peak memory of one form of a network, in a process that runs nothing else.

    python -m harness.network_memory KIND FORM CASE

prints MiB above the process with its libraries loaded: weights, optimizer state and
activations, in the steady state after two steps. CASE is a `Case` as JSON.
`peak` starts it.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from harness import machine
from harness.measure import PeakMemory
from harness.network_forms import OURS, build
from harness.networks import Case, backend
from harness.processes import be_killed_first, run_module


def peak(kind, key, case):
    """MiB; None if the process ran out of memory, or where nothing can be told."""
    return run_module("harness.network_memory", kind, key, json.dumps(case))


def main(kind, key, case):
    be_killed_first()
    case = Case(*json.loads(case))
    machine.use_all_threads(backend() if key in OURS[kind] else "torch")
    build(kind, key, case.smallest).run()
    memory = PeakMemory()
    step = build(kind, key, case)
    for _ in range(2):  # what compilers take is not counted, what they leave is
        step.run()
    print(json.dumps(memory.mib(step.run, 0)))


if __name__ == "__main__":
    main(*sys.argv[1:])
