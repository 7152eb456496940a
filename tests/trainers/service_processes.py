"""A dispatcher and workers of a tf.data service, as users start them."""

import os
import pathlib
import subprocess
import sys
import threading

SCRIPT = pathlib.Path(__file__).parents[2] / "trainers" / "data_worker.py"
SECONDS = 300  # to start, on a machine that is busy


class Process:
    """`trainers/data_worker.py`, running; `line` is what it printed first."""

    def __init__(self, *arguments):
        self._process = subprocess.Popen(
            [sys.executable, SCRIPT, *arguments],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_started(self):
        timer = threading.Timer(SECONDS, self.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        assert line, "see stderr"
        return line.strip()

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class Service:
    """A dispatcher and its workers."""

    def __init__(self, num_workers):
        self.dispatcher = Process("--mode", "dispatcher")
        self.workers = []
        self.line = self.dispatcher.wait_until_started()
        self.address = self.line.removeprefix("Dispatcher at ").split()[0]
        arguments = "--mode", "worker", "--dispatcher", self.address
        self.workers = [Process(*arguments) for _ in range(num_workers)]
        for worker in self.workers:
            worker.wait_until_started()

    def close(self):
        for process in (*self.workers, self.dispatcher):
            process.kill()
