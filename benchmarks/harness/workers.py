"""Subjects, and the processes in which they run (harness/process.py)."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np
import psutil

ROOT = pathlib.Path(__file__).parents[1]
PAUSE = 0.05  # seconds between subjects, in which idle threads stop spinning
# Of all memory. Where less is available, no process is kept for the next round.
LEAST_AVAILABLE = 0.5
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
# Freed blocks of 128 KiB and more go back to the system, so that only memory in use is
# counted, not what remains in the heap of glibc or in the pool of TensorFlow.
RETURN_AT_ONCE = {
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
}


class Subject(NamedTuple):
    """What is measured: `function(*arguments)` makes it (`process.Made`).

    `function` is `"module:name"`, arguments are lists, numbers and strings. `python` is
    the interpreter. `memory`: what is measured for memory, if not the same.
    """

    label: str
    function: str
    arguments: tuple
    python: str = sys.executable
    is_peer: bool = False  # left out, with a line that says why, where it cannot run
    memory: "Subject | None" = None


class OutOfMemory(Exception):
    """The system ended a process."""


class CannotRun(Exception):
    """The process ended with an error, whose last line this has."""


class Team:
    """The processes of subjects, of which one at a time runs.

    They are kept from round to round while there is memory.
    """

    def __init__(self, subjects, new_path):
        self._subjects, self._new_path = subjects, new_path
        self._workers = {}

    def measure(self, key):
        """(values, measurement); starts the process if necessary."""
        self._make_room(key)
        if key not in self._workers:
            self._workers[key] = Worker(self._subjects[key], self._new_path())
        worker = self._workers[key]
        try:
            return worker.values(), worker.measure()
        except (OutOfMemory, CannotRun):
            self._workers.pop(key).close()
            raise

    def _make_room(self, key):
        least = LEAST_AVAILABLE * psutil.virtual_memory().total
        others = [other for other in self._workers if other != key]
        while others and psutil.virtual_memory().available < least:
            self._workers.pop(others.pop(0)).close()

    def close(self):
        for worker in self._workers.values():
            worker.close()


class Worker:
    """A process that is stopped except while it is measured."""

    def __init__(self, subject, values):
        self._path = values
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            _command(subject, "time", values),
            **_surroundings(self._errors),
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self._answer()
        except (OutOfMemory, CannotRun):
            self.close()
            raise

    def values(self):
        if not self._path.exists():
            return []
        with np.load(self._path) as file:
            return list(file.values())

    def measure(self):
        time.sleep(PAUSE)
        self._signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # ended: its answer says so
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self):
        self._signal(signal.SIGKILL)
        self._process.communicate()
        self._errors.close()
        self._path.unlink(missing_ok=True)

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            _raise(self._process.wait(), self._errors)
        self._signal(signal.SIGSTOP)
        return json.loads(line)

    def _signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def call(subject, task="call", environment=None):
    """What the function returns, in a process that then ends."""
    with tempfile.TemporaryFile("w+") as errors:
        done = subprocess.run(
            _command(subject, task), **_surroundings(errors, environment)
        )
        if done.returncode:
            _raise(done.returncode, errors)
    return json.loads(done.stdout)


def _command(subject, task, *values):
    module = "-m", "harness.process", task, subject.function
    arguments = json.dumps(subject.arguments), *map(str, values)
    return [subject.python, *module, *arguments]


def _surroundings(errors, environment=None):
    return {
        "cwd": ROOT,
        "env": {"KERAS_BACKEND": "tensorflow", **os.environ, **QUIET}
        | (environment or {}),
        "stdout": subprocess.PIPE,
        "stderr": errors,
        "text": True,
    }


def _raise(code, errors):
    if code < 0:
        raise OutOfMemory
    errors.seek(0)
    lines = errors.read().strip().splitlines()
    raise CannotRun(lines[-1] if lines else "it ended without an error message")
