"""Runs measurements in processes of their own."""

import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
# Freed blocks of 128 KiB and more go back to the system, so that only memory in use is
# counted, not what remains in the heap of glibc or in the pool of TensorFlow.
RETURN_AT_ONCE = {
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
}


def run_module(*arguments, environment=RETURN_AT_ONCE, python=None):
    """The JSON that `python -m ARGUMENTS` prints; None if memory ran out."""
    command = [python or sys.executable, "-m", *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode < 0:  # by a signal
        return None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


class Worker:
    """A process of `python -m ARGUMENTS` that measures when it is told to.

    It prints a line of JSON for each line on its stdin. `python` is the interpreter.
    """

    def __init__(self, *arguments, python=sys.executable):
        self._process = subprocess.Popen(
            [python, "-m", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def turn(self):
        """The next measurement."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._process.args)} failed.")
        return json.loads(line)

    def close(self):
        self._process.communicate()


def be_killed_first():
    """Makes this process the first that the system ends if memory runs out."""
    try:
        pathlib.Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass


def die_with_parent():
    """Makes this process end when its parent ends, in whatever way.

    On Linux. The kernel ends it, because a stopped process cannot end itself.
    """
    set_death_signal = 1  # PR_SET_PDEATHSIG
    try:
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    except (OSError, AttributeError):
        pass


def end_in_order():
    """Makes SIGTERM raise an exception, so that open files are closed."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
