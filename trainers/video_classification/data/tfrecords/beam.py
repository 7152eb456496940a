"""Shards written by the workers of an Apache Beam pipeline."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from trainers.core.errors import UserError
from trainers.video_classification.data.errors import DataError

# Without a runner DirectRunner would try to download another one.
_LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
# What surrounds the message of a worker's exception.
_FRAME = re.compile(r"^[\w.]*Error: | *\[while running .*\]$")


def for_each(elements: Sequence, function: Callable, options: Sequence[str]) -> None:
    """Calls a function with each element, on the workers of a pipeline.

    Args:
        elements: To be pickled.
        function: Of a module that the workers can import. An element may be given to
            several workers, also at the same time: runners repeat what failed.
        options: Of the pipeline, as in `runner=DataflowRunner`. By default it runs in
            this process.

    Raises:
        UserError: Beam is not installed.
        DataError: The pipeline failed.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError(
            f"Apache Beam cannot be imported ({error}). Install it: "
            "pip install -e '.[beam]' (in the checkout)."
        ) from error
    flags = [f"--{option}" for option in (f"runner={_LOCAL_RUNNER}", *options)]
    try:
        with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
            _ = pipeline | beam.Create(elements) | beam.Map(function)
    except Exception as error:  # of any runner, often with a traceback as its text
        *_, line = str(error).strip().splitlines() or [type(error).__name__]
        reason = _FRAME.sub("", line)
        raise DataError(
            f"The Beam pipeline failed: {reason} Finished shards are kept: run the "
            "same command again."
        ) from error
