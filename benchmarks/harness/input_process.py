"""One input pipeline in a process of its own, resumed and stopped in turns."""

import contextlib
import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time
from typing import NamedTuple

OURS = "ours"
_TICK = os.sysconf("SC_CLK_TCK")
_NO_PYTHON_THREADS = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


class Job(NamedTuple):
    """The task of a pipeline: ours reads `data` and `clip`, peers read `cuts`."""

    cuts: list
    data: dict
    clip: dict
    batch_size: int
    workers: int
    seed: int


class Turn(NamedTuple):
    """Figures of one turn; `memory` is the MiB of all processes, shared ones once."""

    clips_per_second: float
    cpu_ms_per_clip: float
    memory: float


class Pipeline:
    """A pipeline that is stopped except while it is measured.

    Raises:
        RuntimeError: It cannot run here.
    """

    def __init__(self, name, job, folder):
        self.name, self.batch_size = name, job.batch_size
        task = pathlib.Path(folder, f"{name}.pickle")
        task.write_bytes(pickle.dumps((name, job)))
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **_NO_PYTHON_THREADS},
            start_new_session=True,
        )
        self._answer()
        self._stop()

    def first_clips(self, folder):
        """The clips of the first batch, uint8 (B, T, H, W, 3); before any `turn`."""
        import numpy as np

        path = pathlib.Path(folder, f"{self.name}.npy")
        self._resume()
        self._ask(save=str(path))
        self._stop()
        return np.load(path)

    def turn(self, discard, count):
        """Times `count` batches after `discard`, which may have been prefetched."""
        self._resume()
        self._ask(take=discard)
        cpu = self._cpu_seconds()
        seconds = self._ask(take=count)
        cpu = self._cpu_seconds() - cpu
        memory = sum(map(_proportional_mib, self._members()))
        self._stop()
        clips = count * self.batch_size
        return Turn(clips / seconds, 1e3 * cpu / clips, memory)

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def _ask(self, **request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            error = self._process.communicate()[1].strip().splitlines()
            raise RuntimeError(
                error[-1] if error else "it ended without an error message"
            )
        return json.loads(line)

    def _stop(self):
        os.killpg(self._process.pid, signal.SIGSTOP)

    def _resume(self):
        os.killpg(self._process.pid, signal.SIGCONT)

    def _members(self):
        """Process numbers of this pipeline."""
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int(_stat(folder)[2]) == self._process.pid:
                    yield int(folder.name)

    def _cpu_seconds(self):
        total = 0
        for number in self._members():
            with contextlib.suppress(OSError):
                user, system = _stat(pathlib.Path(f"/proc/{number}"))[11:13]
                total += int(user) + int(system)
        return total / _TICK


def _stat(folder):
    """Fields of /proc/N/stat from the state on: 2 is the group, 11 and 12 the time."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _proportional_mib(number):
    with contextlib.suppress(OSError):
        text = pathlib.Path(f"/proc/{number}/smaps_rollup").read_text()
        return int(text.partition("\nPss:")[2].split()[0]) / 1024
    return 0.0


def _our_batches(job):
    import tensorflow as tf

    from trainers.video_classification.data import load_index, make_dataset
    from trainers.video_classification.data.configs import ClipConfig, DataConfig

    tf.get_logger().setLevel("ERROR")
    data = DataConfig(**job.data, num_parallel_decodes=job.workers)
    index = load_index(data)
    dataset = make_dataset(index, data, ClipConfig(**job.clip), seed=job.seed)
    for batch in dataset:
        yield batch["clip"], batch["label"]


def _batches(name, job):
    if name == OURS:
        return _our_batches(job)
    from harness import input_peers

    return input_peers.batches(name, job.cuts, job.batch_size, job.workers)


def _serve(task):
    import numpy as np

    from harness.processes import die_with_parent

    die_with_parent()
    batches = _batches(*pickle.loads(pathlib.Path(task).read_bytes()))
    first = next(batches)[0].numpy()
    print("0", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        for _ in range(request.get("take", 0)):
            next(batches)
        if "save" in request:
            np.save(request["save"], first)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    here = pathlib.Path(__file__).resolve()
    sys.path[:1] = [str(here.parents[1]), str(here.parents[2])]
    from harness import input_process  # the job's classes are pickled by this name

    input_process._serve(sys.argv[1])
