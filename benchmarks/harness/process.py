"""The process of a subject: prepares it, and answers the clock.

    python -m harness.process time|memory|call MODULE:FUNCTION ARGUMENTS [VALUES]

calls the function with ARGUMENTS, a list as JSON. `call` prints what it returns, as
JSON. Otherwise it returns a `Made`: `time` saves its values to the file VALUES, prints
a line, and then one measurement as JSON for each line on stdin; `memory` prints the
peaks.
"""

import ctypes
import gc
import importlib
import json
import os
import pathlib
import signal
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

THREADS = os.cpu_count()  # of every framework
ENOUGH = 0.2  # seconds of timed calls in a round; one call at least
MOST = 20  # timed calls in a round


class Made(NamedTuple):
    """A subject that is ready to run.

    `steps` are functions without arguments, by name. `values()` calls each of them for
    the first time, and gives arrays by which subjects are compared. `operands` are
    MiB that the peak of memory does not count. `measure()` gives a measurement of its
    own kind, numbers by name, instead of the time of the steps.
    """

    steps: dict
    values: Callable | None = None
    operands: float = 0.0
    measure: Callable | None = None


def main(task, function, arguments, values=None):
    answers = _own_stdout()
    _be_killed_first()
    die_with_parent()
    module, _, name = function.partition(":")
    module, arguments = importlib.import_module(module), json.loads(arguments)

    def answer(result):
        print(json.dumps(result), file=answers, flush=True)

    if task == "call":
        answer(getattr(module, name)(*arguments))
    elif task == "memory":
        smallest = getattr(module, "smallest", None)
        answer(peaks(getattr(module, name), arguments, smallest))
    else:
        made = getattr(module, name)(*arguments)
        _begin(made, values)
        answer({})
        for _ in sys.stdin:
            answer(made.measure() if made.measure else times(made.steps))


def _begin(made, path):
    """The first calls, which trace and compile."""
    if made.values:
        import numpy as np

        np.savez(path, *made.values())
    else:
        for step in made.steps.values():
            step()


# === Time ===


def times(steps):
    """Milliseconds of each step, and of CPU time of all threads."""
    found = {}
    for name, step in steps.items():
        step()  # refills caches, and obtains memory that was handed back
        calls = []
        while not calls or (sum(c[0] for c in calls) < ENOUGH and len(calls) < MOST):
            calls.append(timed(step))
        wall, cpu = (1e3 * statistics.median(x) for x in zip(*calls, strict=True))
        found |= {f"{name} ms": wall, f"{name} CPU ms": cpu}
    return found


def timed(step):
    """Seconds, and seconds of CPU, of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    step()
    return time.perf_counter() - wall, time.process_time() - cpu


# === Memory ===


def peaks(make, arguments, smallest=None):
    """MiB by which the process grows in a step, in the steady state.

    Counted above the process with its libraries, which `smallest(*arguments)` loads:
    the arguments of a tiny subject of the same kind. `"process MiB"` is the whole
    process. None where the system has no resettable peak (VmHWM of Linux).
    """
    if smallest:
        for step in make(*smallest(*arguments)).steps.values():
            step()
    _hand_back_freed_memory()
    if not _reset_peak():
        return None
    idle, whole, found = status_mib("VmRSS"), 0.0, {}
    made = make(*arguments)
    for name, step in made.steps.items():
        for _ in range(2):  # what a compiler keeps is counted, what it frees is not
            step()
        whole = max(whole, status_mib("VmHWM"))
        _hand_back_freed_memory()
        _reset_peak()
        result = step()
        peak = status_mib("VmHWM")
        del result
        whole = max(whole, peak)
        found[f"{name} MiB"] = max(peak - idle - made.operands, 0.0)
    return found | {"process MiB": whole}


def _hand_back_freed_memory():
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def _reset_peak():
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def status_mib(key):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {key}.")


# === The process ===


def versions():
    """Of the frameworks of this interpreter; for `call`."""
    from importlib.metadata import distributions

    names = ("tensorflow", "keras", "jax", "torch", "torchvision")
    names += ("openvino", "onnxruntime", "ai-edge-litert")
    found = {d.name.lower(): d.version for d in distributions()}
    return {name: found[name] for name in names if name in found}


def die_with_parent():
    """Makes this process end when its parent ends, in whatever way.

    On Linux. The kernel ends it, because a stopped process cannot end itself.
    """
    set_death_signal = 1  # PR_SET_PDEATHSIG
    try:
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    except (OSError, AttributeError):
        pass


def _be_killed_first():
    """Makes this process the first that the system ends if memory runs out."""
    try:
        pathlib.Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass


def _own_stdout():
    """A file for answers; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main(*sys.argv[1:])
