"""A worker of a tf.data service that makes training batches; see `service.py`."""

from __future__ import annotations

import collections
import functools
import json
import socket
import threading

import numpy as np
import tensorflow as tf

from trainers.core import config
from trainers.core.errors import UserError
from trainers.core.failures import FailureLog
from trainers.video_classification.data import dataset, load_index, service
from trainers.video_classification.data.configs import ClipConfig, DataConfig
from trainers.video_classification.data.samples import SampleReader

_lock = threading.Lock()


def make_batch(request: bytes, number: int) -> list:
    """The function that a worker registers: `data_service.register(make_batch)`.

    Args:
        request: From `service.py`.
        number: Of a batch.

    Returns:
        A report as JSON, and the values of the batch in the order of their names. An
        error that the user can correct is in the report: there are no values then.
    """
    request = bytes(request)
    with _lock:  # an index is read once
        found = _pipeline(request)
    if isinstance(found, dict):
        return _refused(request, **found)
    read, log = found
    try:
        batch = read(tf.constant(number, tf.int64))
    except tf.errors.OpError:
        if log.error is None:
            raise
        return _refused(request, error=str(log.error))
    values = [batch[name].numpy() for name in sorted(batch)]
    return [_report(events=log.take_events()), *values]


def _report(**content) -> bytes:
    return json.dumps(content).encode()


def _refused(request: bytes, **reason: str) -> list:
    values = [np.zeros(0, dtype) for dtype in json.loads(request)["types"]]
    return [_report(host=socket.gethostname(), **reason), *values]


@functools.lru_cache(maxsize=8)
def _pipeline(request: bytes):
    """The function that reads batches, and the log of what it finds out.

    Where there is none, a dict that says why: it is asked for many more batches before
    the trainer has ended.
    """
    wanted = json.loads(request)
    try:
        data = _config(DataConfig(), wanted["data"])
        clip = _config(ClipConfig(), wanted["clip"])
        index = load_index(data, wanted["class_names"])
        if index.digest != wanted["digest"]:
            return {"videos": service.packed(index.lines())}
        log = _EventLog(max_fraction=1)  # the trainer counts those of all workers
        log.expect(len(index))
        context = tf.distribute.InputContext(*wanted["pipeline"])
        reader = SampleReader(index, data, clip, wanted["seed"], log)
        return dataset.batch_function(reader, context), log
    except UserError as error:
        return {"error": str(error)}


def _config(defaults, values: dict):
    config.override(defaults, values, "the request of a trainer")
    return defaults


class _EventLog(FailureLog):
    """Remembers what was recorded, until it is sent to the trainer."""

    def __init__(self, max_fraction: float):
        super().__init__(max_fraction)
        self._events = collections.deque()

    def take_events(self) -> list:
        """(method of `FailureLog`, *arguments) since the last call."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def attempt(self, path: str) -> None:
        super().attempt(path)
        self._events.append(("attempt", path))

    def record(self, path: str, reason: str) -> None:
        super().record(path, reason)
        self._events.append(("record", path, reason))

    def warn(self, path: str, reason: str) -> None:
        super().warn(path, reason)
        self._events.append(("warn", path, reason))
