"""Peak memory of one form of the operation, in a process that runs nothing else.

    python -m harness.op_memory SUBJECT MODE DTYPE NxMxd

prints [forward, forward + backward] as JSON, MiB above the process with its
libraries loaded and the operands allocated. `peaks` starts it.
"""

import json
import os
import pathlib
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from harness.machine import use_all_threads
from harness.measure import PeakMemory
from harness.op_subjects import subject
from harness.operands import OpShape, operands, parse_shape, tensors_mib

ROOT = pathlib.Path(__file__).parents[1]
# Freed blocks of 128 KiB and more go back to the system (glibc): what is counted is
# what is in use, not what an earlier call has left in the heap.
RETURN_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "131072"}
SMALL = OpShape(96, 24, 16)


def peaks(key, mode, dtype, shape):
    """[forward, forward + backward] MiB; None if the process ran out of memory."""
    command = [sys.executable, "-m", "harness.op_memory", key, mode, dtype]
    done = subprocess.run(
        [*command, "x".join(map(str, shape))],
        cwd=ROOT,
        env={**os.environ, **RETURN_AT_ONCE},
        capture_output=True,
        text=True,
    )
    if done.returncode < 0:  # by a signal
        return None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def main(key, mode, dtype, shape):
    _be_killed_first()
    measured = subject(key)
    use_all_threads(measured.framework)
    # Libraries and thread pools are loaded by a small problem, outside the count.
    small = measured.steps(mode, *operands(SMALL, mode), dtype)
    small.forward(), small.forward_backward()
    memory = PeakMemory()
    shape = parse_shape(shape)
    steps = measured.steps(mode, *operands(shape, mode), dtype)
    mib = tensors_mib(shape, mode, dtype)
    print(json.dumps([_peak(memory, measured, step, mib) for step in steps[:2]]))


def _peak(memory, measured, step, operands_mib):
    if measured.is_traced:
        step()  # not what the compiler takes, but what it leaves behind is counted
    return memory.mib(step, operands_mib)


def _be_killed_first():
    """Should memory run out, let it be this process that the system ends."""
    try:
        pathlib.Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
