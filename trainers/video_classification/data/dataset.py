"""Batches of clips as a `tf.data.Dataset`."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from trainers.video_classification.data import files, sampling
from trainers.video_classification.data.cache import FrameCache
from trainers.video_classification.data.errors import DataError, VideoError
from trainers.video_classification.data.failures import FailureLog
from trainers.video_classification.data.index import Index
from trainers.video_classification.data.reading import check_decoder, cut_views
from trainers.video_classification.data.settings import check_settings
from trainers.video_classification.data.views import RandomView, TestViews

if TYPE_CHECKING:
    from trainers.video_classification.configs import ClipConfig, DataConfig

_ATTEMPTS_PER_CHECK = 20


def make_dataset(
    index: Index,
    data: DataConfig,
    clip: ClipConfig,
    *,
    seed: int = 0,
    start_batch: int = 0,
    input_context: tf.distribute.InputContext | None = None,
    failures: FailureLog | None = None,
) -> tf.data.Dataset:
    """Batches of `clip`, `label`, `video`, `view` and `weight`.

    - `clip`: uint8 (B, T, H, W, 3).
    - `label`: int32 (B,); float32 (B, K), 0 or 1, where `is_multilabel`.
    - `video`: int32 (B,), the position in `index.records`.
    - `view`: int32 (B,): clip * num_test_crops + crop; 0 in training.
    - `weight`: float32 (B,): 1, or 0 for rows that only fill up a batch.

    Training batches never end. Every epoch visits the videos in an order of its
    own; sample n of the run depends on (seed, n) alone, so batch `start_batch`
    is reached at once, and is the batch an uninterrupted run would have made. A
    broken video is replaced by another one, drawn from (seed, n) as well.

    Test batches go through the index once, decode each video once, and leave
    broken ones out. Their number is fixed: it is filled up with rows of weight
    0, the same on every input pipeline.

    Args:
        index: From `load_index`.
        data: `global_batch_size` counts clips (views at test).
        clip: The clip's length and stride.
        seed: Of the order and the augmentation; any integer.
        start_batch: Number of global batches to pass over.
        input_context: From `distribute_datasets_from_function`: batches are per
            replica. Each global batch is cut into equal runs, one per input
            pipeline, each cut into one batch per replica; so all pipelines
            together give the batches that a single one would. Test videos go to
            the pipelines in turn.
        failures: Where broken videos are counted; it may be shared. None: one
            of its own, limited by `data.max_broken_fraction`.

    Raises:
        DataError: Settings of which no batch can be made. While it runs, too
            many broken videos end it with an error of TensorFlow's; the
            original is in `failures.error`.
    """
    check_settings(data, clip)
    check_decoder(data.decoder)
    if data.global_batch_size < 1:
        raise DataError(
            "`global_batch_size` must be at least 1. Received: "
            f"{data.global_batch_size}."
        )
    if failures is None:
        failures = FailureLog(data.max_broken_fraction)
    failures.expect(len(index))
    context = input_context or tf.distribute.InputContext()
    reader = Reader(index, data, clip, seed, failures)
    make = _training_batches if data.is_training else _test_batches
    dataset = make(reader, context, start_batch)
    options = tf.data.Options()
    options.deterministic = data.deterministic is not False
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    prefetch = data.prefetch_buffer_size or tf.data.AUTOTUNE
    return dataset.prefetch(prefetch).with_options(options)


def _training_batches(
    reader: Reader, context: tf.distribute.InputContext, start_batch: int
) -> tf.data.Dataset:
    global_batch = reader.data.global_batch_size
    batch = context.get_per_replica_batch_size(global_batch)
    local = global_batch // context.num_input_pipelines
    first = context.input_pipeline_id * local

    def sample_number(i):  # i-th sample of this pipeline -> of the whole run
        return i // local * global_batch + first + i % local

    numbers = tf.data.Dataset.counter(start_batch * local, dtype=tf.int64)
    samples = numbers.map(sample_number).map(
        reader.training_sample,
        num_parallel_calls=reader.num_threads,
        deterministic=reader.data.deterministic is not False,
    )
    return samples.batch(batch, drop_remainder=True)


def _test_batches(
    reader: Reader, context: tf.distribute.InputContext, start_batch: int
) -> tf.data.Dataset:
    global_batch = reader.data.global_batch_size
    batch = context.get_per_replica_batch_size(global_batch)
    pipelines = context.num_input_pipelines
    local = global_batch // pipelines
    most_views = -(-len(reader.index) // pipelines) * reader.num_views
    num_batches = -(-most_views // local) * (local // batch)
    videos = tf.data.Dataset.range(
        context.input_pipeline_id, len(reader.index), pipelines
    )
    views = videos.map(
        reader.test_views,
        num_parallel_calls=reader.num_threads,
        deterministic=reader.data.deterministic is not False,
    ).unbatch()
    padding = tf.data.Dataset.from_tensors(reader.padding()).repeat()
    batches = views.concatenate(padding).batch(batch, drop_remainder=True)
    batches = batches.take(num_batches)
    if reader.data.cache:
        batches = batches.cache()
    skipped = start_batch * (local // batch)
    left = max(num_batches - skipped, 0)
    return batches.skip(skipped).apply(tf.data.experimental.assert_cardinality(left))


class Reader:
    """Reads samples by number; what it does runs in TensorFlow's threads.

    Args:
        index: From `load_index`.
        data: See `make_dataset`.
        clip: The clip's length and stride.
        seed: Of the order and the augmentation.
        failures: Where broken videos are counted.
        cut: Makes views of a video: `reading.cut_views`, or a part of it.
    """

    def __init__(
        self,
        index: Index,
        data: DataConfig,
        clip: ClipConfig,
        seed: int,
        failures: FailureLog,
        cut=cut_views,
    ):
        self.index, self.data, self.clip, self.cut = index, data, clip, cut
        self.cache = _frame_cache(index, data)
        self.seed, self.failures = seed or 0, failures
        self.num_threads = data.num_parallel_decodes or _num_cores()
        self.num_views = data.num_test_clips * data.num_test_crops
        self.num_classes = len(index.class_names)
        self.clip_shape = (clip.num_frames, data.crop_size, data.crop_size, 3)

    def training_sample(self, number: tf.Tensor) -> dict[str, tf.Tensor]:
        clip, video = self._call(self.read_sample, number)
        video.set_shape(())
        clip.set_shape(self.clip_shape)
        return self._example(clip, video, view=0)

    def test_views(self, video: tf.Tensor) -> dict[str, tf.Tensor]:
        clips, video = self._call(self._read_test_views, video)
        clips.set_shape((None, *self.clip_shape))
        count = tf.shape(clips)[0]
        videos = tf.repeat(tf.ensure_shape(video, ()), count)
        return self._example(clips, videos, view=tf.range(count))

    def padding(self) -> dict[str, tf.Tensor]:
        example = self._example(
            tf.zeros(self.clip_shape, tf.uint8), tf.constant(0), view=0
        )
        return example | {"weight": tf.constant(0.0)}

    def _example(self, clip, video, view) -> dict[str, tf.Tensor]:
        return {
            "clip": clip,
            "label": tf.gather(self._labels(), video),
            "video": video,
            "view": tf.convert_to_tensor(view, tf.int32),
            "weight": tf.ones_like(video, tf.float32),
        }

    def _labels(self) -> np.ndarray:
        records = self.index.records
        if not self.data.is_multilabel:
            return np.array([r.labels[0] for r in records], np.int32)
        labels = np.zeros((len(records), self.num_classes), np.float32)
        for row, record in zip(labels, records, strict=True):
            row[list(record.labels)] = 1
        return labels

    def _call(self, function, number: tf.Tensor):
        # Not stateful: the result depends on `number` alone. Op determinism
        # would run a stateful function one sample at a time.
        return tf.numpy_function(
            self._guarded(function), [number], [tf.uint8, tf.int32], stateful=False
        )

    def _guarded(self, function):
        def call(number):
            try:
                return function(int(number))
            except Exception as error:
                self.failures.error = error
                raise

        return call

    def read_sample(self, number: int) -> tuple[np.ndarray, np.int32]:
        """Sample `number`, from another video if its own turns out to be broken."""
        video = sampling.sample_video(self.seed, number, len(self.index))
        attempt = 0
        while True:
            generator = sampling.sample_generator(self.seed, number, attempt)
            if attempt:
                video = int(generator.integers(len(self.index)))
            plan = RandomView(self.data, self.clip, generator)
            views = self._read(video, plan)
            if views is not None:
                return views[0], np.int32(video)
            attempt += 1
            if attempt % _ATTEMPTS_PER_CHECK == 0:
                self.failures.check_any_left(self.index.records)

    def _read_test_views(self, video: int) -> tuple[np.ndarray, np.int32]:
        views = self._read(video, TestViews(self.data, self.clip))
        if views is None:
            views = np.zeros((0, *self.clip_shape), np.uint8)
        return views, np.int32(video)

    def _read(self, video: int, plan) -> np.ndarray | None:
        """The views; None for a broken video, unless that is one too many."""
        path = self.index.records[video].path
        if path in self.failures.failures:
            self.failures.check()
            return None
        self.failures.attempt(path)
        try:
            warn = self.failures.warn
            return self.cut(path, self.data.decoder, plan, warn, self.cache)
        except VideoError as error:
            self.failures.record(path, error.reason)
        finally:
            self.failures.check()
        return None


def _frame_cache(index: Index, data: DataConfig) -> FrameCache | None:
    if not data.frame_cache:
        return None
    if any(files.is_record(record.path) for record in index.records):
        raise DataError(
            f"`frame_cache` keeps JPEG frames, which {index.path} is made of already: "
            "leave it empty."
        )
    folder = pathlib.Path(data.frame_cache).resolve()
    if pathlib.Path(index.path).resolve() in (folder, *folder.parents):
        raise DataError(
            f"`frame_cache` ({data.frame_cache}) lies in the data, {index.path}, where "
            "it would be taken for a class: name a folder elsewhere."
        )
    largest = data.max_short_side if data.is_training else data.min_short_side
    return FrameCache(data.frame_cache, largest)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0))
