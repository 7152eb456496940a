"""Batches of clips as a `tf.data.Dataset`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from trainers.core.failures import FailureLog
from trainers.video_classification.data import service
from trainers.video_classification.data.decoding import check_decoder
from trainers.video_classification.data.index import Index
from trainers.video_classification.data.samples import SampleReader

if TYPE_CHECKING:
    from trainers.video_classification.data.configs import ClipConfig, DataConfig

_LAST = 2**62  # training batches never end


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

    - `clip`: uint8 (B, T, H, W, 3); squares of `crop_size`, unless
      `data.test_protocol` keeps whole frames.
    - `label`: int32 (B,); float32 (B, K), 0 or 1, if `is_multilabel`. If the index has
      the times of actions, training clips have the labels of their own frames alone.
      With `mixup_and_cutmix`, training labels are always float32 (B, K), 0 to 1.
    - `video`: int32 (B,), the position in `index.videos`.
    - `view`: int32 (B,): clip * num_test_crops + crop; 0 in training.
    - `weight`: float32 (B,): 1, or 0 for rows that only fill up a batch.

    Training batches never end. Every epoch visits the videos in a new order.
    Sample n of the run depends on (seed, n) alone, so reading can start at any
    `start_batch`, and gives the batches of an uninterrupted run. A broken video is
    replaced by another one, drawn from (seed, n) as well.

    Test batches go through the index once, decode each video once, and leave
    broken ones out. Their number is fixed: missing views are filled up with rows
    of weight 0. It is the same on every input pipeline. A global batch that the
    replicas cannot share evenly is rounded up to one that they can. A batch of whole
    frames has views of one video only, as others are of another size.

    Args:
        index: From `load_index`.
        data: `global_batch_size` counts clips (views at test).
        clip: The clip's length and stride.
        seed: Of the order and the augmentation; any integer.
        start_batch: Number of global batches to skip.
        input_context: From `distribute_datasets_from_function`: batches are per
            replica. Each global batch is divided into equal runs, one per input
            pipeline, each divided into one batch per replica; so all pipelines
            together give the batches that a single one would. Test videos are
            assigned to the pipelines in turn.
        failures: Counts broken videos; datasets may share it. None: a new one, with
            the limit `data.max_broken_fraction`.

    Raises:
        UserError: Invalid settings. Too many broken videos end the iteration with
            an error of TensorFlow's; the original is in `failures.error`.
    """
    data.check()
    data.check_clip(clip)
    data.check_batch_size()
    check_decoder(data.decoder)
    if failures is None:
        failures = FailureLog(data.max_broken_fraction)
    failures.expect(len(index))
    context = input_context or tf.distribute.InputContext()
    reader = SampleReader(index, data, clip, seed, failures)
    if not data.is_training:
        dataset = _test_batches(reader, context, start_batch)
    elif data.enable_tf_data_service:
        read = batch_function(reader, context)
        dataset = service.batches(reader, context, start_batch, read)
    else:
        dataset = _training_batches(reader, context, start_batch)
    options = tf.data.Options()
    options.deterministic = data.deterministic is not False
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    prefetch = data.prefetch_buffer_size or tf.data.AUTOTUNE
    return dataset.prefetch(prefetch).with_options(options)


def _training_batches(
    reader: SampleReader, context: tf.distribute.InputContext, start_batch: int
) -> tf.data.Dataset:
    """Batches of one replica each, from global batch `start_batch` on."""
    local = reader.data.global_batch_size // context.num_input_pipelines
    return _batches_of(reader, context, start_batch * local, _LAST)


def batch_function(reader: SampleReader, context: tf.distribute.InputContext):
    """Function from n, int64, to the n-th of the batches of this input pipeline."""
    batch = context.get_per_replica_batch_size(reader.data.global_batch_size)

    @tf.function(input_signature=[tf.TensorSpec((), tf.int64)], autograph=False)
    def read(number):
        first = number * batch
        return _batches_of(reader, context, first, first + batch).get_single_element()

    return read


def _batches_of(
    reader: SampleReader, context: tf.distribute.InputContext, start, stop
) -> tf.data.Dataset:
    """Batches of the samples `start` to `stop` of this input pipeline."""
    global_batch = reader.data.global_batch_size
    batch = context.get_per_replica_batch_size(global_batch)
    local = global_batch // context.num_input_pipelines
    first = context.input_pipeline_id * local
    reader.data.check_pairs(context.num_input_pipelines)

    def sample_number(i):  # i-th sample of this pipeline -> of the whole run
        return i // local * global_batch + first + i % local

    def read(i):
        return reader.training_sample(sample_number(i))

    if reader.data.mixup_and_cutmix.is_on:
        samples = _mixed_samples(reader, sample_number, start, stop)
    else:
        samples = _parallel(reader, tf.data.Dataset.range(start, stop), read)
    return samples.batch(batch, drop_remainder=True)


def _mixed_samples(reader: SampleReader, sample_number, start, stop) -> tf.data.Dataset:
    """Samples 2k and 2k + 1 are read and mixed together, wherever batches begin."""
    from trainers.video_classification.data.augmentation import Mixing

    mix = Mixing(
        reader.data.mixup_and_cutmix, reader.seed, len(reader.index.class_names)
    )

    def read_pair(k):
        numbers = sample_number(2 * k), sample_number(2 * k + 1)
        pair = map(reader.training_sample, numbers)
        return mix(tf.stack(numbers), tf.nest.map_structure(_stacked, *pair))

    pairs = tf.data.Dataset.range(start // 2, (stop + 1) // 2)
    samples = _parallel(reader, pairs, read_pair).unbatch()
    return samples.skip(start % 2).take(stop - start)


def _stacked(*values: tf.Tensor) -> tf.Tensor:
    return tf.stack(values)


def _parallel(reader: SampleReader, numbers: tf.data.Dataset, read) -> tf.data.Dataset:
    return numbers.map(
        read,
        num_parallel_calls=reader.num_threads,
        deterministic=reader.data.deterministic is not False,
    )


def _test_batches(
    reader: SampleReader, context: tf.distribute.InputContext, start_batch: int
) -> tf.data.Dataset:
    replicas, pipelines = context.num_replicas_in_sync, context.num_input_pipelines
    batch = -(-reader.data.global_batch_size // replicas)
    local = batch * (replicas // pipelines)
    most_videos = -(-len(reader.index) // pipelines)
    videos = tf.data.Dataset.range(
        context.input_pipeline_id, len(reader.index), pipelines
    ).map(
        reader.test_views,
        num_parallel_calls=reader.num_threads,
        deterministic=reader.data.deterministic is not False,
    )
    padding = tf.data.Dataset.from_tensors(reader.padding()).repeat()
    if reader.data.protocol.whole_frame:
        per_video = -(-reader.num_views // batch)
        batches = videos.map(lambda views: _filled(views, per_video, batch)).unbatch()
        batches = batches.concatenate(padding.batch(batch, True))
        most_views = most_videos * per_video * batch
    else:
        batches = videos.unbatch().concatenate(padding).batch(batch, True)
        most_views = most_videos * reader.num_views
    num_batches = -(-most_views // local) * (local // batch)
    batches = batches.take(num_batches)
    skipped = start_batch * (local // batch)
    left = max(num_batches - skipped, 0)
    return batches.skip(skipped).apply(tf.data.experimental.assert_cardinality(left))


def _filled(
    views: dict[str, tf.Tensor], num_batches: int, batch: int
) -> dict[str, tf.Tensor]:
    """`num_batches` batches of the views of one video, filled up with zeros."""

    def fill(value):
        missing = num_batches * batch - tf.shape(value)[0]
        rest = value.shape[1:]
        value = tf.pad(value, [(0, missing), *[(0, 0)] * rest.rank])
        shape = tf.concat([[num_batches, batch], tf.shape(value)[1:]], axis=0)
        return tf.ensure_shape(tf.reshape(value, shape), (num_batches, batch, *rest))

    return {name: fill(value) for name, value in views.items()}
