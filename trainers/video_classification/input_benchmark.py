"""Measures the clips per second of the input pipeline, stage by stage."""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from trainers.video_classification.data import FailureLog, make_dataset
from trainers.video_classification.data.reading import cut_views, decode_only
from trainers.video_classification.data.samples import (
    SampleReader,
    decoding_threads,
)

_SECONDS = 8.0  # per stage
_BUSY = 0.8  # fraction of the cores in use above which they are the limit
_MUCH = 0.85  # a stage slower than this, relative to the one before, is the limit


@dataclasses.dataclass(frozen=True)
class Stage:
    """The speed of a stage and all before it, and the cores that it used."""

    name: str
    clips_per_second: float
    cores: float


def measure(index, data, clip, seed: int, seconds: float = _SECONDS) -> list[Stage]:
    """Runs the training pipeline up to each of its stages.

    Each stage reads the first samples of training, with as many threads as training.
    The first batch, which opens files and fills caches, is not timed.

    Args:
        index: Of the training videos.
        data: `DataConfig` of training.
        clip: `ClipConfig`.
        seed: Of the order and the augmentation.
        seconds: At least this long per stage.

    Raises:
        DataError: As `make_dataset`; too many broken videos.
    """
    failures = FailureLog(data.max_broken_fraction)
    batches = make_dataset(index, data, clip, seed=seed, failures=failures)
    reader = SampleReader(index, data, clip, seed, failures)
    batch, threads = data.global_batch_size, reader.num_threads
    stages = []
    for name, cut in (("read, decode", decode_only), ("+ augment", cut_views)):
        reader.cut = cut
        with ThreadPoolExecutor(threads) as pool:
            samples = _in_order(pool, reader.read_sample, 2 * threads)
            stages.append(_timed(name, samples, 1, batch, seconds))
    try:
        stages.append(_timed("+ batch, prefetch", iter(batches), batch, 3, seconds))
    except Exception as error:
        raise failures.error or error from error
    return stages


def report(stages: list[Stage], data, clip) -> list[str]:
    """Formats a table of the stages, and names the limit."""
    cores = len(os.sched_getaffinity(0))
    threads = decoding_threads(data)
    lines = [f"{'stage':<20}{'clips/s':>9}{'frames/s':>10}{'cores used':>12}"]
    for stage in stages:
        frames = stage.clips_per_second * clip.num_frames
        speed = f"{stage.clips_per_second:>9.1f}{frames:>10.0f}"
        lines.append(f"{stage.name:<20}{speed}{stage.cores:>9.1f}/{cores}")
    step = 1e3 * data.global_batch_size / stages[-1].clips_per_second
    return [
        *lines,
        f"A training step of {data.global_batch_size} clips waits for input if it "
        f"takes less than {step:.0f} ms and needs no core itself.",
        f"Limit: {_limit(stages, threads, cores)}",
    ]


def _limit(stages: list[Stage], threads: int, cores: int) -> str:
    decode, augment, whole = stages
    if decode.cores < _BUSY * min(threads, cores):
        return (
            "waiting for storage, or for cores in use by other programs: copy the data "
            "to a faster disk, raise task.train_data.num_parallel_decodes, or stop the "
            "other programs."
        )
    if threads < cores:
        return f"task.train_data.num_parallel_decodes is {threads} of {cores} cores."
    if augment.clips_per_second < _MUCH * decode.clips_per_second:
        return "scaling and cropping: store videos with a smaller short side."
    if whole.clips_per_second < _MUCH * augment.clips_per_second:
        return (
            "batching, with `aug_type` and `mixup_and_cutmix` if they are on: memory "
            "bandwidth, or other programs on these cores."
        )
    return (
        "decoding, on every core: task.train_data.frame_cache, TFRecords "
        "(trainers/prepare_video.py), or videos with more keyframes (ffmpeg -g 32)."
    )


def _in_order(pool, read, ahead: int) -> Iterator:
    """Yields samples 0, 1, ... while `ahead` of them are being read."""
    waiting = [pool.submit(read, number) for number in range(ahead)]
    try:
        for number in itertools.count(ahead):
            yield waiting.pop(0).result()
            waiting.append(pool.submit(read, number))
    finally:
        for future in waiting:
            future.cancel()


def _timed(
    name: str, items: Iterable, clips: int, discard: int, seconds: float
) -> Stage:
    """Measures items of `clips` each for some seconds, after discarding a few."""
    items = iter(items)
    for _ in range(discard):
        next(items)
    start, cpu, count = time.perf_counter(), time.process_time(), 0
    while not count or time.perf_counter() - start < seconds:
        next(items)
        count += clips
    wall = time.perf_counter() - start
    if hasattr(items, "close"):
        items.close()
    return Stage(name, count / wall, (time.process_time() - cpu) / wall)
