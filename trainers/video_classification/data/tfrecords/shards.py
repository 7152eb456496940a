"""Writes an index of videos as TFRecord shards of JPEG frames."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import pathlib
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool

import tensorflow as tf
from tqdm import tqdm

from trainers.core import files
from trainers.video_classification.data.errors import DataError, VideoError
from trainers.video_classification.data.index import Index, Video
from trainers.video_classification.data.tfrecords.jpeg import encode_video
from trainers.video_classification.data.tfrecords.records import (
    make_example,
    read_field,
    sidecar,
)

_VIDEOS_PER_SHARD = 64


@dataclasses.dataclass(frozen=True)
class WriteSummary:
    """The videos that were written, and those that were not.

    Attributes:
        num_written: Number of videos in the shards.
        left_out: Path of each video that is not in them -> why.
        damaged: Path of each video that was written with frames that are lost, or
            in which the decoder concealed errors -> how many.
    """

    num_written: int
    left_out: dict[str, str]
    damaged: dict[str, str]


@dataclasses.dataclass(frozen=True)
class _Shard:
    """The input of a worker process that writes one shard."""

    path: str
    videos: tuple[Video, ...]
    class_names: tuple[str, ...]
    short_side: int
    quality: int

    @property
    def fingerprint(self) -> str:
        """Differs if anything differs that the shard's content depends on."""
        content = dataclasses.replace(self, path=os.path.basename(self.path))
        return hashlib.sha256(repr(content).encode()).hexdigest()


def write_shards(
    index: Index,
    output_dir: str,
    *,
    short_side: int = 256,
    quality: int = 85,
    num_shards: int = 0,
    workers: int = 0,
) -> WriteSummary:
    """Writes `clips-*.tfrecord`, a JSON file for each, index.json and report.json.

    A shard appears under its name when it is complete. Later runs of the same
    command keep it.

    Args:
        index: The videos; not TFRecords.
        output_dir: Created if it does not exist.
        short_side: Frames with a larger one are scaled down to it.
        quality: Of the JPEG frames, 1-100.
        num_shards: 0 means one for every 64 videos.
        workers: Processes; 0 means one per core.

    Raises:
        DataError: The output folder has other shards or cannot be written to (disk
            full), or a worker was killed (out of memory).
    """
    if index.format == "tfrecord":
        raise DataError(
            f"{index.path}: already consists of TFRecords. Give the videos that they "
            "were written from."
        )
    folder = pathlib.Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    shards = _plan(index, folder, short_side, quality, num_shards)
    _refuse_other_shards(folder, shards)
    _remove_parts(folder)  # of a run that was killed
    todo = [shard for shard in shards if not _is_done(shard)]
    try:
        _write_all(todo, shards, workers or len(os.sched_getaffinity(0)))
    finally:
        _remove_parts(folder)  # of workers stopped because another one failed
    return _finish(folder, index, shards)


def _remove_parts(folder: pathlib.Path) -> None:
    for part in folder.glob(".clips-*.part"):
        part.unlink(missing_ok=True)


def _plan(
    index: Index, folder: pathlib.Path, short_side: int, quality: int, num_shards: int
) -> list[_Shard]:
    count = num_shards or -(-len(index) // _VIDEOS_PER_SHARD)
    count = min(count, len(index))
    return [
        _Shard(
            path=str(folder / f"clips-{i:05d}-of-{count:05d}.tfrecord"),
            videos=index.videos[i::count],
            class_names=index.class_names,
            short_side=short_side,
            quality=quality,
        )
        for i in range(count)
    ]


def _refuse_other_shards(folder: pathlib.Path, shards: list[_Shard]) -> None:
    expected = {shard.path: shard.fingerprint for shard in shards}
    for path in map(str, folder.glob("*.tfrecord")):
        if path not in expected or _fingerprint_beside(path) not in (
            None,
            expected[path],
        ):
            raise DataError(
                f"{path}: was written from other videos or with other settings. "
                "Remove it, or choose another --output_dir."
            )


def _is_done(shard: _Shard) -> bool:
    written = _fingerprint_beside(shard.path) == shard.fingerprint
    return written and os.path.exists(shard.path)


def _fingerprint_beside(path: str) -> str | None:
    beside = pathlib.Path(sidecar(path))
    return read_field(str(beside), "fingerprint") if beside.exists() else None


def _write_all(todo: list[_Shard], shards: list[_Shard], workers: int) -> None:
    total = sum(len(shard.videos) for shard in shards)
    kept = total - sum(len(shard.videos) for shard in todo)
    with tqdm(total=total, initial=kept, unit="video") as progress:
        if min(workers, len(todo)) <= 1:
            for shard in todo:
                _write_shard(shard, progress.update)
            return
        for count in _written_in_parallel(todo, workers):
            progress.update(count)


def _written_in_parallel(todo: list[_Shard], workers: int) -> Iterator[int]:
    """The number of videos of each shard, when it is complete."""
    # Spawned, not forked: TensorFlow's threads do not survive a fork. Not a
    # `Pool`, which waits forever if a worker is killed.
    context = multiprocessing.get_context("spawn")
    pool = futures.ProcessPoolExecutor(min(workers, len(todo)), context)
    try:
        waiting = [pool.submit(_write_shard, shard) for shard in todo]
        for done in futures.as_completed(waiting):
            yield done.result()
    except BrokenProcessPool as error:
        raise DataError(
            "A worker process was killed, most often because the memory ran out. "
            "Finished shards are kept: run the same command again, with fewer "
            f"--workers than {min(workers, len(todo))}."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _write_shard(shard: _Shard, on_video=lambda count: None) -> int:
    """Writes a shard and its JSON file; returns its number of videos."""
    records, left_out, damaged = [], {}, {}
    with files.replacing(shard.path) as part:
        with tf.io.TFRecordWriter(part) as writer:
            offset = 0
            for video in shard.videos:
                try:
                    payload, num_bad = _payload(video, shard)
                    writer.write(payload)
                    if num_bad:
                        damaged[video.path] = f"{num_bad} bad frames"
                    records.append((offset, video.name, video.labels))
                    offset += len(payload) + 16  # length, two checksums
                except VideoError as error:
                    left_out[error.path] = error.reason
                on_video(1)
    content = {
        "records": records,
        "left_out": left_out,
        "damaged": damaged,
        "fingerprint": shard.fingerprint,
    }
    _write_json(sidecar(shard.path), content)
    return len(shard.videos)


def _payload(video: Video, shard: _Shard) -> tuple[bytes, int]:
    """The serialised record of a video, and the number of its bad frames."""
    jpeg = encode_video(video.path, shard.short_side, shard.quality)
    example = make_example(
        jpeg.frames,
        jpeg.size,
        jpeg.frame_rate,
        video.labels,
        shard.class_names,
        video.name,
    )
    return example.SerializeToString(deterministic=True), jpeg.num_bad


def _finish(folder: pathlib.Path, index: Index, shards: list[_Shard]) -> WriteSummary:
    contents = [json.loads(pathlib.Path(sidecar(s.path)).read_text()) for s in shards]
    summary = WriteSummary(
        num_written=sum(len(content["records"]) for content in contents),
        left_out=dict.fromkeys(index.missing, "no such file"),
        damaged={},
    )
    for content in contents:
        summary.left_out.update(content["left_out"])
        summary.damaged.update(content["damaged"])
    _write_json(str(folder / "report.json"), dataclasses.asdict(summary))
    _write_json(str(folder / "index.json"), {"class_names": index.class_names})
    return summary


def _write_json(path: str, content: dict) -> None:
    with files.replacing(path) as part:
        pathlib.Path(part).write_text(json.dumps(content, indent=1))
