"""Trains with several workers on this machine, each a process: two cores suffice.

python -m tests.trainers.workers SEEN FLAGS_OF_VIDEO_PY ...

runs the command, and writes the videos of each training step to the file SEEN.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
TIMEOUT = 1500  # seconds; a run takes 20 on an idle machine
STRATEGY = "runtime.distribution_strategy=multi_worker_mirrored"


class Workers:
    """Processes that train together.

    Args:
        num_workers: How many.
        config: YAML file.
        folder: Of the model.
        overrides: Of the config.
        mode: `--mode`.
        own: Overrides of single workers by number.
        absent: Numbers of workers that are not started.
        cwd: Working directories of single workers by number.
    """

    def __init__(
        self,
        num_workers,
        config,
        folder,
        *overrides,
        mode="train_and_eval",
        own=None,
        absent=(),
        cwd=None,
    ):
        self.folder = folder
        self.logs = pathlib.Path(tempfile.mkdtemp(dir=folder.parent))
        self.addresses = [f"localhost:{port}" for port in free_ports(num_workers)]
        self._flags = ["--config", config, "--mode", mode, "--model_dir", folder]
        self._overrides, self._own, self._cwd = overrides, own or {}, cwd or {}
        self.processes = {}
        for i in range(num_workers):
            if i not in absent:
                self.start(i)

    def start(self, index):
        overrides = [STRATEGY, *self._overrides, *self._own.get(index, ())]
        command = [sys.executable, "-m", "tests.trainers.workers"]
        command += [self.logs / f"seen{index}", *self._flags]
        command += [f"--params_override={override}" for override in overrides]
        cluster = {"cluster": {"worker": self.addresses}}
        cluster["task"] = {"type": "worker", "index": index}
        environment = {
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": str(ROOT),
            "TF_CONFIG": json.dumps(cluster) if len(self.addresses) > 1 else "{}",
        }
        with (
            open(self.logs / f"out{index}", "w") as out,
            open(self.logs / f"err{index}", "w") as err,
        ):
            self.processes[index] = subprocess.Popen(
                command,
                env=os.environ | environment,
                cwd=self._cwd.get(index, ROOT),
                stdout=out,
                stderr=err,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def errors(self, index: int = 0) -> str:
        return (self.logs / f"err{index}").read_text()

    def output(self, index: int = 0) -> str:
        return (self.logs / f"out{index}").read_text()

    def wait(self) -> list[int]:
        """Waits for all; returns their exit codes."""
        deadline = time.monotonic() + TIMEOUT
        for process in self.processes.values():
            process.wait(max(deadline - time.monotonic(), 1))
        return [process.returncode for process in self.processes.values()]

    def finish(self):
        """Waits for all, which must succeed."""
        codes = self.wait()
        assert not any(codes), [codes, *map(self.errors, self.processes)]

    def wait_for_step(self, step: int, index: int = 0):
        """Waits until a worker begins a step, counted from 0; or until it ends."""
        deadline = time.monotonic() + TIMEOUT
        while self.processes[index].poll() is None:
            if any(number >= step for number in self.seen(index)):
                return
            assert time.monotonic() < deadline, self.errors(index)
            time.sleep(0.02)

    def seen(self, index: int = 0) -> dict[int, list[int]]:
        """Step, counted from 0 -> the videos of one worker."""
        path = self.logs / f"seen{index}"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return dict(json.loads(line) for line in lines if line.endswith("\n"))

    def kill(self, index: int, signum=signal.SIGKILL):
        self.processes[index].send_signal(signum)


def free_ports(count: int) -> list[int]:
    """Ports that no process uses now."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def check_examples(expected: dict[int, list[int]], *trainings: Workers):
    """Checks the videos of trainings that continued one another.

    Args:
        expected: Step -> the videos of the global batch, of an uninterrupted training.
        trainings: Each worker must have had its share of the expected videos; and at
            each step there were all of them once.
    """
    complete = set()
    for training in trainings:
        steps = [training.seen(i) for i in training.processes]
        for i, of_worker in enumerate(steps):
            for step, videos in of_worker.items():
                share = len(expected[step]) // len(steps)
                assert videos == expected[step][i * share : (i + 1) * share], step
        complete |= set.intersection(*map(set, steps))
    assert complete == set(expected)


def _log_examples(path: str):
    """Makes each training step write its number and its videos to a file."""
    from trainers.core.trainer import Trainer

    step = Trainer._distributed_train_step

    def logged(trainer, inputs, *args):
        import tensorflow as tf

        def write(number, *parts):
            videos = [int(video) for part in parts for video in part]
            with open(path, "a") as file:
                file.write(json.dumps([int(number), videos]) + "\n")

        parts = trainer._strategy.experimental_local_results(inputs["video"])
        tf.numpy_function(write, [trainer.global_step, *parts], [])
        return step(trainer, inputs, *args)

    Trainer._distributed_train_step = logged


def main(path: str):
    from trainers import video
    from trainers.core import cli

    _log_examples(path)
    cli.start(video.main)


if __name__ == "__main__":
    main(sys.argv.pop(1))
