"""Peak memory of one form of the operation, in a process that runs nothing else.

    python -m harness.op_memory SUBJECT MODE DTYPE SHAPE...

prints one line of JSON per shape: forward and forward + backward, MiB above idle.
`peaks` starts it.
"""

import json
import os
import pathlib
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from harness.machine import use_all_threads
from harness.measure import peak_mib
from harness.op_subjects import subject
from harness.operands import OpShape, operands

ROOT = pathlib.Path(__file__).parents[1]


def peaks(key, mode, dtype, shapes):
    """[forward, forward + backward] MiB by shape; a shape the process died of is
    left out."""
    arguments = ["x".join(map(str, shape)) for shape in shapes]
    done = subprocess.run(
        [sys.executable, "-m", "harness.op_memory", key, mode, dtype, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode > 0:  # its own error; a negative one is a signal
        raise RuntimeError(f"op_memory {key} {mode} failed:\n{done.stderr}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip(shapes, lines, strict=False))


def main(key, mode, dtype, *shapes):
    _be_killed_first()
    measured = subject(key)
    use_all_threads(measured.framework)
    for text in shapes:
        tensors, dy = operands(OpShape(*map(int, text.split("x"))), mode)
        steps = measured.steps(mode, tensors, dy, dtype)
        peak = [peak_mib(steps.forward), peak_mib(steps.forward_backward)]
        print(json.dumps(peak), flush=True)


def _be_killed_first():
    """Should memory run out, let it be this process that the system ends."""
    try:
        pathlib.Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
