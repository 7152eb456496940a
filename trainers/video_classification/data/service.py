"""Training batches from a tf.data service: what a trainer asks for, and receives.

A batch is a function of the configs, the seed and its number. So a request consists of
these, and a worker (`service_worker.py`) reads the data by itself.
"""

from __future__ import annotations

import base64
import itertools
import json
import uuid
import zlib
from collections.abc import Callable, Sequence

import tensorflow as tf

from trainers.core import config, data_service, files
from trainers.video_classification.data.errors import DataError
from trainers.video_classification.data.index import Index
from trainers.video_classification.data.samples import SampleReader


def batches(
    reader: SampleReader,
    context: tf.distribute.InputContext,
    start_batch: int,
    read: Callable[[tf.Tensor], dict[str, tf.Tensor]],
) -> tf.data.Dataset:
    """The batches of an input pipeline, made by workers.

    Args:
        reader: Describes the data; workers build the same.
        context: Of the input pipeline.
        start_batch: Number of global batches to skip.
        read: Makes the n-th batch of this pipeline in this process.

    Raises:
        UserError: There is no such service, or it has no workers.
    """
    data = reader.data
    data_service.check(data.tf_data_service_address)
    spec = read.get_concrete_function().structured_outputs
    names = sorted(spec)
    types = [spec[name].dtype for name in names]
    start = start_batch * context.num_replicas_in_sync // context.num_input_pipelines

    def make(number: int) -> list:
        values = read(tf.constant(number, tf.int64))
        return [None, *(values[name] for name in names)]

    def generate():
        received = data_service.numbered_batches(
            data.tf_data_service_address,
            _request(reader, context, types),
            (tf.string, *types),
            start,
            data.tf_data_service_job_name,
        )
        try:
            for report, *values in data_service.in_order(received, start, make):
                _take_over(report, reader)
                yield dict(zip(names, values, strict=True))
        except Exception as error:
            reader.failures.error = error
            raise

    signature = {name: tf.TensorSpec(x.shape, x.dtype) for name, x in spec.items()}
    return tf.data.Dataset.from_generator(generate, output_signature=signature)


def _request(reader: SampleReader, context: tf.distribute.InputContext, types) -> str:
    """What a worker must know, as JSON. No two requests are the same."""
    data = config.to_dict(reader.data.from_any_folder())
    request = {
        "id": uuid.uuid4().hex,
        "data": data | {"enable_tf_data_service": False},
        "clip": config.to_dict(reader.clip),
        "seed": reader.seed,
        "class_names": reader.index.class_names,
        "digest": reader.index.digest,
        "pipeline": [
            context.num_input_pipelines,
            context.input_pipeline_id,
            context.num_replicas_in_sync,
        ],
        "types": [dtype.name for dtype in types],
    }
    return json.dumps(request)


def _take_over(report: tf.Tensor | None, reader: SampleReader) -> None:
    """Records what a worker found out while it made a batch."""
    if report is None:  # it was made here
        return
    report = json.loads(report.numpy())
    if "videos" in report:
        raise DataError(_difference(reader.index, report))
    if "error" in report:
        raise DataError(f"{report['error']} (data worker on {report['host']})")
    for event, *args in report["events"]:
        getattr(reader.failures, event)(*args)
    reader.failures.check()


def packed(lines: Sequence[str]) -> str:
    """The lines of an index, a tenth of their size."""
    return base64.b64encode(zlib.compress(json.dumps(lines).encode())).decode()


def _difference(index: Index, report: dict) -> str:
    theirs = json.loads(zlib.decompress(base64.b64decode(report["videos"])))
    pairs = itertools.zip_longest(index.lines(), theirs, fillvalue="absent")
    number, pair = next((n, x) for n, x in enumerate(pairs) if x[0] != x[1])
    here, there = map(files.printable, pair)
    return (
        f"{index.path}: the data worker on {report['host']} has other videos: "
        f"number {number + 1} is {here} here, and {there} there. Both must have the "
        "same files under the same path."
    )
