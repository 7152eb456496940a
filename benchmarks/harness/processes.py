"""Measuring in a process of its own."""

import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
# Freed blocks of 128 KiB and more go back to the system: what is counted is what is in
# use, not what an earlier call has left in the heap of glibc, or in TensorFlow's pool.
RETURN_AT_ONCE = {
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
}


def run_module(*arguments, environment=RETURN_AT_ONCE):
    """The JSON that `python -m ARGUMENTS` prints; None if memory ran out."""
    command = [sys.executable, "-m", *arguments]
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


def be_killed_first():
    """Should memory run out, let it be this process that the system ends."""
    try:
        pathlib.Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass


def die_with_parent():
    """Should the process that began this one end, however it does: so does this one.

    On Linux; a process that is stopped could not do so by itself.
    """
    set_death_signal = 1  # PR_SET_PDEATHSIG
    try:
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    except (OSError, AttributeError):
        pass


def end_in_order():
    """Lets SIGTERM end this process as an exception: what is open is closed."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
