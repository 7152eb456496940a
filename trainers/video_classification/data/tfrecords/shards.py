"""Writes an index of videos as TFRecord shards of JPEG frames."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool

import tensorflow as tf
from absl import logging

from trainers.core import files
from trainers.core.progress import ProgressBar
from trainers.core.tfrecord_file import FRAMING_BYTES
from trainers.video_classification.data.errors import DataError, VideoError
from trainers.video_classification.data.index import Index, Video
from trainers.video_classification.data.limits import DEFAULT_LIMITS, Limits
from trainers.video_classification.data.tfrecords import beam
from trainers.video_classification.data.tfrecords.frame_tables import (
    make_table,
    make_tables,
    table_file,
    write_tables,
)
from trainers.video_classification.data.tfrecords.records import (
    PART_BYTES,
    make_context,
    make_records,
)
from trainers.video_classification.data.tfrecords.shard_sets import is_member
from trainers.video_classification.data.tfrecords.sidecars import (
    ShardRecord,
    read_checked,
    sidecar,
    write_checked,
)
from trainers.video_classification.data.tfrecords.video_frames import encode_video

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
    part_bytes: int
    limits: Limits
    frame_rate: float

    @property
    def fingerprint(self) -> str:
        """Differs if anything differs that the shard's content depends on."""
        content = repr(dataclasses.replace(self, path=os.path.basename(self.path)))
        actions = [video.actions for video in self.videos]  # not in a video's repr
        content += repr(actions) if any(actions) else ""
        return hashlib.sha256(content.encode()).hexdigest()


def write_shards(
    index: Index,
    output_dir: str,
    *,
    short_side: int = 256,
    quality: int = 85,
    num_shards: int = 0,
    workers: int = 0,
    part_bytes: int = PART_BYTES,
    limits: Limits = DEFAULT_LIMITS,
    frame_rate: float = 0.0,
    beam_options: Sequence[str] | None = None,
) -> WriteSummary:
    """Writes `clips-*.tfrecord`, with two files beside each, index.json, report.json.

    A shard appears under its name when it is complete. Later runs of the same
    command keep it. Beside it are a JSON file (`sidecars`) and its `frame_tables`.

    Args:
        index: The videos; not TFRecords.
        output_dir: Created if it does not exist.
        short_side: Frames with a larger one are scaled down to it.
        quality: Of the JPEG frames, 1-100.
        num_shards: 0 means one for every 64 videos.
        workers: Processes; 0 means one per core.
        part_bytes: A video with more bytes of frames is split into several records.
        limits: Of what reading one video may cost.
        frame_rate: Of videos whose own is unknown.
        beam_options: Write by an Apache Beam pipeline with these options, instead of
            processes of this machine. See `beam.for_each`.

    Raises:
        DataError: The output folder has other shards, a worker was killed (out of
            memory), or the pipeline failed.
        UserError: Beam is not installed.
        FileError: It cannot be written to (disk full, read-only).
    """
    if index.format == "tfrecord":
        raise DataError(
            f"{index.path}: already consists of TFRecords. Give the videos that they "
            "were written from."
        )
    files.make_folder(output_dir)
    # Workers would import the Model Garden for its subclass.
    limits = Limits(*dataclasses.astuple(limits))
    settings = short_side, quality, num_shards, part_bytes, limits, frame_rate
    shards = _plan(index, output_dir, *settings)
    _refuse_other_shards(output_dir, shards)
    files.remove_parts(output_dir)  # of a run that was killed
    todo = [x for x in shards if not (_is_done(x) and files.exists(table_file(x.path)))]
    try:
        if beam_options is None:
            _write_all(todo, shards, workers or len(os.sched_getaffinity(0)))
        elif todo:
            beam.for_each(todo, _write_shard, beam_options)
    finally:
        files.remove_parts(output_dir)  # of workers stopped because another one failed
    return _finish(output_dir, index, shards)


def _plan(
    index: Index,
    folder: str,
    short_side: int,
    quality: int,
    num_shards: int,
    part_bytes: int,
    limits: Limits,
    frame_rate: float,
) -> list[_Shard]:
    count = num_shards or -(-len(index) // _VIDEOS_PER_SHARD)
    count = min(count, len(index))
    return [
        _Shard(
            path=files.join(folder, f"clips-{i:05d}-of-{count:05d}.tfrecord"),
            videos=index.videos[i::count],
            class_names=index.class_names,
            short_side=short_side,
            quality=quality,
            part_bytes=part_bytes,
            limits=limits,
            frame_rate=frame_rate,
        )
        for i in range(count)
    ]


def _refuse_other_shards(folder: str, shards: list[_Shard]) -> None:
    expected = {shard.path: shard for shard in shards}
    beside = {sidecar(path) for path in expected}
    for name in sorted(files.listdir(folder)):
        path = files.join(folder, name)
        if not name.endswith(".tfrecord") and not is_member(name):
            continue
        if path in beside:
            continue
        if path not in expected or _has_other_content(expected[path]):
            raise DataError(
                f"{path}: was written from other videos or with other settings. "
                "Remove it, or choose another --output_dir."
            )


def _has_other_content(shard: _Shard) -> bool:
    try:
        found = _content_beside(shard)
    except files.FileError:
        return False  # damaged: both are written again
    return found is not None and found.get("fingerprint") != shard.fingerprint


def _is_done(shard: _Shard) -> bool:
    try:
        found = _content_beside(shard)
    except files.FileError as error:
        logging.warning("%s The shard is written again.", error)
        return False
    if not found or not files.exists(shard.path):
        return False
    return files.state(shard.path)[1] == found.get("num_bytes")


def _content_beside(shard: _Shard) -> dict | None:
    """The content of a shard's JSON file; None if there is none."""
    beside = sidecar(shard.path)
    return read_checked(beside) if files.exists(beside) else None


def _write_all(todo: list[_Shard], shards: list[_Shard], workers: int) -> None:
    total = sum(len(shard.videos) for shard in shards)
    kept = total - sum(len(shard.videos) for shard in todo)
    bar = ProgressBar("prepare", total, kept, unit="video")
    with contextlib.closing(bar):
        if min(workers, len(todo)) <= 1:
            for shard in todo:
                _write_shard(shard, bar.advance)
            return
        for count in _written_in_parallel(todo, workers):
            bar.advance(count)


def _written_in_parallel(todo: list[_Shard], workers: int) -> Iterator[int]:
    """The number of videos of each shard, when it is complete."""
    # Spawned, not forked: TensorFlow's threads do not survive a fork. Not a
    # `Pool`, which waits forever if a worker is killed.
    context = multiprocessing.get_context("spawn")
    pool = futures.ProcessPoolExecutor(
        min(workers, len(todo)), context, initializer=_end_with_parent
    )
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


def _end_with_parent() -> None:
    """Ends this worker when its parent is killed; it would wait for work forever."""

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _write_shard(shard: _Shard, on_video=lambda count: None) -> int:
    """Writes a shard and the files beside it; returns its number of videos."""
    if _is_done(shard):  # without tables of its frames
        write_tables(shard.path, make_tables(shard.path))
        on_video(len(shard.videos))
        return len(shard.videos)
    records, left_out, damaged, tables, offset = [], {}, {}, {}, 0
    with files.replacing(shard.path) as part, tf.io.TFRecordWriter(part) as writer:
        for video in shard.videos:
            start = offset
            try:
                for payload in _records(video, shard, damaged):
                    writer.write(payload)
                    tables[offset] = make_table(payload)
                    offset += FRAMING_BYTES + len(payload)
                record = ShardRecord(start, video.name, video.labels, video.actions)
                records.append(record.row())
            except VideoError as error:
                left_out[error.path] = error.reason
            on_video(1)
    write_tables(shard.path, tables)
    content = {
        "records": records,
        "left_out": left_out,
        "damaged": damaged,
        "class_names": shard.class_names,
        "num_bytes": offset,
        "fingerprint": shard.fingerprint,
    }
    write_checked(sidecar(shard.path), content)
    return len(shard.videos)


def _records(video: Video, shard: _Shard, damaged: dict[str, str]) -> Iterator[bytes]:
    """The records of a video; it is added to those that are damaged, if it is."""
    folder = os.path.dirname(shard.path)
    scratch = None if files.is_remote(folder) else folder
    settings = shard.short_side, shard.quality, shard.part_bytes, scratch, shard.limits
    with encode_video(video.path, *settings, shard.frame_rate) as jpeg:
        if jpeg.num_bad:
            damaged[video.path] = f"{jpeg.num_bad} bad frames"
        described = video.labels, shard.class_names, video.name, video.actions
        context = make_context(jpeg, *described)
        yield from make_records(jpeg, context, shard.part_bytes)


def _finish(folder: str, index: Index, shards: list[_Shard]) -> WriteSummary:
    contents = [read_checked(sidecar(shard.path)) for shard in shards]
    summary = WriteSummary(
        num_written=sum(len(content["records"]) for content in contents),
        left_out=dict.fromkeys(index.missing, "no such file"),
        damaged={},
    )
    for content in contents:
        summary.left_out.update(content["left_out"])
        summary.damaged.update(content["damaged"])
    files.write_json(files.join(folder, "report.json"), dataclasses.asdict(summary))
    names = {"class_names": index.class_names}
    write_checked(files.join(folder, "index.json"), names)
    return summary
