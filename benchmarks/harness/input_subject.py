"""One input pipeline: the first batch of clips, and the time of later ones."""

import json
import pathlib

import psutil

from harness.input_clips import Cut
from harness.process import Made, timed

OURS = "ours"
SIDE_BY_SIDE, BY_FILE = "decoder", "decoder_by_file"


def make(name, job, count):
    """A pipeline that gives `count` batches in a round.

    `job` is a JSON file: `data` and `clip`, which configure ours; `cuts`, which the
    peers read; `batch_size`, `workers` and `seed`. CPU time is of all processes, and
    so is memory, of which shared parts count once.
    """
    job = json.loads(pathlib.Path(job).read_text())
    batches = _batches(name, job)
    clips = count * job["batch_size"]

    def take(count):
        for _ in range(count):
            next(batches)

    def measure():
        take(2 * job["workers"] + 2)  # which may have been prefetched
        before = cpu_seconds()
        seconds, _ = timed(lambda: take(count))
        cpu = cpu_seconds() - before
        figures = {"clip ms": 1e3 * seconds / clips, "clip CPU ms": 1e3 * cpu / clips}
        return figures | {"MiB": _shared_once_mib()}

    def values():
        first = next(batches)
        return [] if name in (SIDE_BY_SIDE, BY_FILE) else [first[0].numpy()]

    return Made({}, values, measure=measure)


def _batches(name, job):
    if name == OURS:
        return _our_batches(job)
    cuts = [Cut(*cut) for cut in job["cuts"]]
    if name in (SIDE_BY_SIDE, BY_FILE):
        from harness import input_floor

        files, threads = job["workers"], 1
        if name == BY_FILE:
            files, threads = threads, files
        return input_floor.batches(cuts, job["batch_size"], files, threads)
    from harness import input_peers

    return input_peers.batches(name, cuts, job["batch_size"], job["workers"])


def _our_batches(job):
    import tensorflow as tf

    from trainers.video_classification.data import load_index, make_dataset
    from trainers.video_classification.data.configs import ClipConfig, DataConfig

    tf.get_logger().setLevel("ERROR")
    data = DataConfig(**job["data"], num_parallel_decodes=job["workers"])
    index, clip = load_index(data), ClipConfig(**job["clip"])
    for batch in make_dataset(index, data, clip, seed=job["seed"]):
        yield batch["clip"], batch["label"]


def _processes():
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def cpu_seconds():
    """Of this process and its children."""
    return sum(sum(process.cpu_times()[:2]) for process in _processes())


def _shared_once_mib():
    """Of all processes; None where the system does not say it."""
    memory = [process.memory_full_info() for process in _processes()]
    if not hasattr(memory[0], "pss"):
        return None
    return sum(part.pss for part in memory) / 2**20
