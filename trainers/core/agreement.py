"""What the workers of a cluster exchange, so that all do the same and end together."""

import contextlib
import functools
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context  # the service has no public API

from trainers.core import cluster, files
from trainers.core.cluster import Cluster, LostWorkerError, WorkerError
from trainers.core.errors import Interrupted, UserError

_ERROR_KEY = "error_of_a_worker"
_SENDING_SECONDS = 5  # for an answer to the report of an error
_LEAVING_SECONDS = 2  # in which the others get to know the error
_MAX_NAMED = 3


def gather(strategy: tf.distribute.Strategy, value) -> list:
    """The values of all workers, the chief's first. All workers must call it.

    Args:
        strategy: Of the training.
        value: JSON can represent it.
    """
    workers = cluster.of(strategy)
    if workers is None:
        return [value]
    text = json.dumps(value).encode()
    text += b" " * (-len(text) % 4)
    words = np.frombuffer(text, np.int32)  # collective operations take no strings
    counts = _gather_rows(strategy, np.array([len(words)], np.int32))
    rows = np.split(_gather_rows(strategy, words), np.cumsum(counts)[:-1])
    per_worker = len(rows) // len(workers.workers)  # one row for each replica
    return [json.loads(row.tobytes()) for row in rows[::per_worker]]


def _gather_rows(strategy, rows: np.ndarray) -> np.ndarray:
    distribute = strategy.experimental_distribute_values_from_function
    return _gathering(strategy)(distribute(lambda _: tf.constant(rows))).numpy()


@functools.lru_cache(maxsize=1)
def _gathering(strategy):
    """One function for all calls: TensorFlow would make a new one for each."""
    gather_rows = functools.partial(strategy.gather, axis=0)
    return tf.function(gather_rows, reduce_retracing=True)


def from_chief(strategy: tf.distribute.Strategy, compute: Callable[[], object]):
    """What a function returns on the chief, on all workers; JSON can represent it."""
    is_chief = strategy.extended.should_checkpoint
    return gather(strategy, compute() if is_chief else None)[0]


# === Compare ===


def check_same(
    strategy: tf.distribute.Strategy, values: Mapping[str, Sequence[str]]
) -> None:
    """Raises a `UserError` on all workers if a value of one differs from the chief's.

    Args:
        strategy: Of the training.
        values: Name, for the message -> lines.
    """
    found = cluster.of(strategy)
    if found is None:
        return
    digests = gather(strategy, {name: _digest(values[name]) for name in values})
    for name in values:
        if any(digest[name] != digests[0][name] for digest in digests):
            lines = gather(strategy, list(values[name]))
            raise UserError(_differences(found, name, lines))


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(lines)).encode()).hexdigest()


def _differences(found: Cluster, name: str, lines: Sequence[Sequence[str]]) -> str:
    chief = lines[0]
    lines_of_workers = [
        f"  {worker}: {_difference(chief, own)}"
        for worker, own in zip(found.workers, lines, strict=True)
        if own != chief
    ]
    return "\n".join(
        [f"The workers must have the same {name}, but these differ from {found.chief}:"]
        + lines_of_workers
    )


def _difference(expected: Sequence[str], found: Sequence[str]) -> str:
    kinds = (
        ("lacks", set(expected).difference(found)),
        ("has besides", set(found).difference(expected)),
    )
    parts = [f"{kind} {_some(sorted(lines))}" for kind, lines in kinds if lines]
    return "; ".join(parts) or "has the same in another order"


def _some(lines: Sequence[str]) -> str:
    shown = ", ".join(map(files.printable, lines[:_MAX_NAMED]))
    more = len(lines) - _MAX_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


# === End together ===


@contextlib.contextmanager
def ending_together(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Context that all workers leave together; an error of one ends all of them.

    Raises:
        WorkerError: The error of another worker.
        LostWorkerError: Another worker has been lost.
    """
    found = cluster.of(strategy)
    if found is None:
        yield
        return
    try:
        yield
        gather(strategy, None)  # the chief may still be writing
    except Interrupted:  # of all workers, after the same step
        with contextlib.suppress(tf.errors.OpError):
            gather(strategy, None)
        raise
    except BaseException as error:
        if isinstance(error, tf.errors.OpError) and _is_elsewhere(found, str(error)):
            raise _error_elsewhere(found, error) from None
        _report(f"{found.this}: {_describe(error)}", WorkerError)
        raise


def _is_elsewhere(found: Cluster, message: str) -> bool:
    """Whether TensorFlow says that another worker failed, not this one."""
    return "Collective ops is aborted" in message or bool(found.others_in(message))


def _error_elsewhere(found: Cluster, error: tf.errors.OpError) -> WorkerError:
    """The error that ended the others, as the first of them has reported it."""
    try:
        reported = context.context().get_config_key_value(_ERROR_KEY, 1000)
        kind, text = json.loads(reported)
        return LostWorkerError(text) if kind == "LostWorkerError" else WorkerError(text)
    except (tf.errors.OpError, ValueError):  # nobody could report one
        pass
    workers = found.others_in(str(error)) or cluster.others_without_answer(found)
    lost = ", ".join(map(str, workers)) or "Another worker"
    text = (
        f"{lost} was lost: killed, or its machine cannot be reached. Look at its "
        "output, and run the same command again on all workers."
    )
    _report(text, LostWorkerError)
    return LostWorkerError(text)


def _report(text: str, kind: type[WorkerError]):
    """Ends the other workers with this error, unless one was reported before."""

    def send():
        message = json.dumps([kind.__name__, text])
        with contextlib.suppress(tf.errors.OpError):
            context.context().set_config_key_value(_ERROR_KEY, message)
        with contextlib.suppress(tf.errors.OpError):
            context.context().report_error_to_cluster(tf.errors.ABORTED, text[:1000])

    # These calls wait for an answer, for ever if the machine of the chief is gone.
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    sender.join(_SENDING_SECONDS)
    time.sleep(_LEAVING_SECONDS)


def _describe(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {files.reason(error)} Its output has more."
