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
import time

ROOT = pathlib.Path(__file__).parents[2]
TIMEOUT = 400  # seconds; a run takes 20 on an idle machine
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
        ports: Of the workers; None: free ones.
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
        ports=None,
    ):
        self.folder = folder
        self.logs = folder.parent / f"{folder.name}_logs"
        self.logs.mkdir(exist_ok=True)
        ports = ports or free_ports(num_workers)
        self.addresses = [f"localhost:{port}" for port in ports]
        self._command = [config, folder, mode, [STRATEGY, *overrides], own or {}]
        self.processes = {
            i: self._start(i) for i in range(num_workers) if i not in absent
        }

    def _start(self, index):
        config, folder, mode, overrides, own = self._command
        command = [sys.executable, "-m", "tests.trainers.workers"]
        command += [self.logs / f"seen{index}", "--config", config, "--mode", mode]
        command += ["--model_dir", folder]
        overrides = [*overrides, *own.get(index, ())]
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
            return subprocess.Popen(
                command, env=os.environ | environment, cwd=ROOT, stdout=out, stderr=err
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
            if any(number >= step for number, _ in seen(self.logs / f"seen{index}")):
                return
            assert time.monotonic() < deadline, self.errors(index)
            time.sleep(0.02)

    def kill(self, index: int, signum=signal.SIGKILL):
        self.processes[index].send_signal(signum)


def free_ports(count: int) -> list[int]:
    """Ports that no process uses now."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def seen(path) -> list[tuple[int, list[int]]]:
    """(step, videos) of the steps in a file."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [tuple(json.loads(x)) for x in lines if x.endswith("\n")]


def examples(folder, num_workers: int) -> dict[int, list[int]]:
    """Step -> the videos of all workers, in the order of the global batch.

    Steps that were trained again after a stop must have been of the same videos.
    """
    logs = folder.parent / f"{folder.name}_logs"
    found = {}
    for i in range(num_workers):
        of_worker = {}
        for step, videos in seen(logs / f"seen{i}"):
            assert of_worker.setdefault(step, videos) == videos
        for step, videos in of_worker.items():
            found.setdefault(step, []).extend(videos)
    return found


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
