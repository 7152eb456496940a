"""Batches of images as a `tf.data.Dataset`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from trainers.core.errors import DataError, check_key
from trainers.core.failures import FailureLog
from trainers.detection.data.index import Index
from trainers.detection.data.objects import TARGETS
from trainers.detection.data.samples import SampleReader

if TYPE_CHECKING:
    from keras_nonlocal.models import DetectionConvention
    from trainers.detection.data.configs import DataConfig

MULTIPLE = 32  # of the sides of a batch: the stride of res5
_LAST = 2**62  # training batches never end
_OF_OBJECTS = {"boxes", "classes", "is_crowd", "masks", "keypoints"}


def make_dataset(
    index: Index,
    data: DataConfig,
    convention: DetectionConvention,
    *,
    target: str = "masks",
    seed: int = 0,
    start_batch: int = 0,
    input_context: tf.distribute.InputContext | None = None,
    failures: FailureLog | None = None,
) -> tf.data.Dataset:
    """Batches of B images, padded to the right and below with zeros.

    - `images`: float32 (B, H, W, 3), normalised; H and W are multiples of 32.
    - `sizes`: int32 (B, 2): height and width of each image without padding.
    - `weight`: float32 (B,): 1, or 0 for rows that only fill up a batch.

    Training, with M the number of objects in the image that has most, at least 1:

    - `sample`: int64 (B,): numbers of the samples in the run.
    - `boxes`: float32 (B, M, 4): x1, y1, x2, y2 in pixels of `images`; 0 for padding.
    - `classes`: int32 (B, M): labels; 0 for padding.
    - `is_crowd`: bool (B, M).
    - `masks`: uint8 (B, M, H, W), 0 or 1, if `target` is `masks`.
    - `keypoints`: float32 (B, M, K, 3): x, y and visibility 0, 1 or 2, if it is
      `keypoints`.

    Evaluation:

    - `original_sizes`: int32 (B, 2): height and width of each image as it is stored.
    - `image_id`: int64 (B,).

    Training batches never end. Every epoch visits the images in a new order. Sample n
    of the run depends on (seed, n) alone, so reading can start at any `start_batch`,
    and gives the batches of an uninterrupted run. An image that is broken is replaced
    by another one, drawn from (seed, n) as well.

    Evaluation batches go through the index once. Their number is the same on every
    input pipeline; rows of weight 0 fill them up, and are in the place of broken
    images. A global batch that the replicas cannot share evenly is rounded up.

    Args:
        index: From `load_index`.
        data: `global_batch_size` counts images.
        convention: Its `mean`, `std` and `color` are those of the network's input.
        target: What is trained: `masks`, `keypoints` or `boxes`.
        seed: Of the order and the augmentation; any integer.
        start_batch: Number of global batches to skip.
        input_context: From `distribute_datasets_from_function`: batches are per
            replica. Each global batch is divided into equal runs, one per input
            pipeline, each divided into one batch per replica. Images for evaluation
            are assigned to the pipelines in turn.
        failures: Counts broken images; datasets may share it. None: a new one, with
            the limit `data.max_broken_fraction`.

    Raises:
        UserError: Invalid settings. Too many broken images end the iteration with an
            error of TensorFlow's; the original is in `failures.error`.
    """
    data.check()
    data.check_batch_size()
    check_key("target", target, TARGETS)
    if target == "keypoints" and not index.num_keypoints:
        raise DataError(
            f"{index.path}: no category has keypoints: list their names as `keypoints` "
            "of a category in the annotation file."
        )
    if failures is None:
        failures = FailureLog(data.max_broken_fraction, "image")
    failures.expect(len(index))
    context = input_context or tf.distribute.InputContext()
    reader = SampleReader(index, data, convention, target, seed, failures)
    make = _training_batches if data.is_training else _evaluation_batches
    options = tf.data.Options()
    options.deterministic = data.deterministic is not False
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    prefetch = data.prefetch_buffer_size or tf.data.AUTOTUNE
    dataset = make(reader, context, start_batch)
    return dataset.prefetch(prefetch).with_options(options)


def _training_batches(
    reader: SampleReader, context: tf.distribute.InputContext, start_batch: int
) -> tf.data.Dataset:
    global_batch = reader.data.global_batch_size
    batch = context.get_per_replica_batch_size(global_batch)
    local = global_batch // context.num_input_pipelines
    first = context.input_pipeline_id * local

    def read(i):  # i-th sample of this pipeline -> of the whole run
        return reader.training_sample(i // local * global_batch + first + i % local)

    samples = _parallel(reader, tf.data.Dataset.range(start_batch * local, _LAST), read)
    return samples.padded_batch(batch, drop_remainder=True).map(_padded)


def _evaluation_batches(
    reader: SampleReader, context: tf.distribute.InputContext, start_batch: int
) -> tf.data.Dataset:
    replicas, pipelines = context.num_replicas_in_sync, context.num_input_pipelines
    batch = -(-reader.data.global_batch_size // replicas)
    local = batch * (replicas // pipelines)
    most_images = -(-len(reader.index) // pipelines)
    per_global = local // batch
    num_batches = -(-most_images // local) * per_global
    first = min(start_batch * per_global, num_batches)
    # Positions beyond the index are rows of weight 0.
    positions = tf.data.Dataset.range(first * batch, num_batches * batch).map(
        lambda i: i * pipelines + context.input_pipeline_id
    )
    samples = _parallel(reader, positions, reader.evaluation_sample)
    return samples.padded_batch(batch, drop_remainder=True).map(_padded)


def _parallel(reader: SampleReader, numbers: tf.data.Dataset, read) -> tf.data.Dataset:
    return numbers.map(
        read,
        num_parallel_calls=reader.num_threads,
        deterministic=reader.data.deterministic is not False,
    )


def _padded(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A batch whose sides are multiples of 32, with room for at least one object."""
    below, right = (-tf.shape(batch["images"])[axis] % MULTIPLE for axis in (1, 2))
    padding = {
        "images": [(0, 0), (0, below), (0, right), (0, 0)],
        "masks": [(0, 0), (0, 0), (0, below), (0, right)],
    }
    batch = {
        name: tf.pad(value, padding[name]) if name in padding else value
        for name, value in batch.items()
    }
    for name in _OF_OBJECTS & batch.keys():
        missing = tf.maximum(1 - tf.shape(batch[name])[1], 0)
        rest = [(0, 0)] * (batch[name].shape.rank - 2)
        batch[name] = tf.pad(batch[name], [(0, 0), (0, missing), *rest])
    return batch
