"""Peak memory of one form of a network, in a process that runs nothing else.

    python -m harness.network_memory KIND FORM CASE

prints MiB above the process with its libraries loaded: weights, optimizer state and
activations, in the steady state after two steps. CASE is a `Case` as JSON.
`peak` starts it.
"""

import json
import os
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from harness import machine
from harness.measure import PeakMemory
from harness.network_forms import OURS, build, exports
from harness.networks import Case, backend
from harness.processes import be_killed_first, run_module

MODULE = "harness.network_memory"
SMALLEST = "smallest"  # loads the libraries, and the code that loads networks


def peak(kind, key, case):
    """MiB; None if the process ran out of memory or the system reports no peak."""
    arguments = kind, key, json.dumps(case)
    if not exports(kind, key):
        return run_module(MODULE, *arguments)
    with tempfile.TemporaryDirectory() as directory:
        run_module(MODULE, *arguments, directory, "export")
        return run_module(MODULE, *arguments, directory)


def main(kind, key, case, directory=None, export=None):
    be_killed_first()
    case = Case(*json.loads(case))
    machine.use_all_threads(backend() if key in OURS[kind] else "torch")
    if export:
        write = exports(kind, key).export
        write(key, case.smallest, f"{directory}/{SMALLEST}")
        print(json.dumps(write(key, case, directory)))
        return
    _step(kind, key, case.smallest, directory and f"{directory}/{SMALLEST}").run()
    memory = PeakMemory()
    step = _step(kind, key, case, directory)
    for _ in range(
        2
    ):  # memory that compilers use meanwhile is not counted, what they keep is
        step.run()
    print(json.dumps(memory.mib(step.run, 0)))


def _step(kind, key, case, directory):
    if directory is None:
        return build(kind, key, case)
    return exports(kind, key).load(case, directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
