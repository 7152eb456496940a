"""Peak memory of one form of the operation, in a process that runs nothing else.

    python -m harness.op_memory SUBJECT MODE DTYPE NxMxd

prints [forward, forward + backward] as JSON, MiB above the process with its
libraries loaded and the operands allocated. `peaks` starts it.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from harness.machine import use_all_threads
from harness.measure import PeakMemory
from harness.op_subjects import subject
from harness.operands import OpShape, operands, parse_shape, tensors_mib
from harness.processes import be_killed_first, run_module

SMALL = OpShape(96, 24, 16)


def peaks(key, mode, dtype, shape):
    """[forward, forward + backward] MiB; None if the process ran out of memory."""
    sizes = "x".join(map(str, shape))
    return run_module("harness.op_memory", key, mode, dtype, sizes)


def main(key, mode, dtype, shape):
    be_killed_first()
    measured = subject(key)
    use_all_threads(measured.framework)
    # A small problem loads libraries and starts threads before the measurement.
    small = measured.steps(mode, *operands(SMALL, mode), dtype)
    small.forward(), small.forward_backward()
    memory = PeakMemory()
    shape = parse_shape(shape)
    steps = measured.steps(mode, *operands(shape, mode), dtype)
    mib = tensors_mib(shape, mode, dtype)
    print(json.dumps([_peak(memory, measured, step, mib) for step in steps[:2]]))


def _peak(memory, measured, step, operands_mib):
    if measured.is_traced:
        step()  # memory that the compiler keeps is counted, what it frees is not
    return memory.mib(step, operands_mib)


if __name__ == "__main__":
    main(*sys.argv[1:])
