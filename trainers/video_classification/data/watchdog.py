"""Gives up files that take too long to read.

Nothing can interrupt a read from a network disk that no longer answers. So files are
read in other threads. At the deadline the caller goes on, and the thread is left
alone: it ends when its read does. A thread that is not blocked ends by itself, where
it calls `check`.
"""

from __future__ import annotations

import collections
import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from trainers.video_classification.data.limits import too_much

Result = TypeVar("Result")

_GRACE = 1.0  # seconds in which a thread that is not blocked gets to `check`
_BATCH = 100  # items of `iterate` in one call


def within(path: str, seconds: float, function: Callable[..., Result], *args) -> Result:
    """Calls a function that reads a file, in another thread.

    Within such a call, the deadline of the outer one is moved: it allows at least
    the time of the inner one.

    Args:
        path: The file.
        seconds: `limits.seconds`.
        function: Called with `args`.

    Raises:
        VideoError: The function did not return in time.
        Exception: Raised by the function.
    """
    call = _Call(path, min(seconds, threading.TIMEOUT_MAX / 2), function, args)
    outer = _current()
    if outer:
        outer.deadline = max(outer.deadline, call.deadline + _GRACE)
    thread = _idle_thread()
    thread.calls.put(call)
    try:
        result, error = call.wait()
    except BaseException:  # too late, or a signal
        thread.calls.put(None)
        raise
    _idle.append(thread)
    if error is None:
        return result
    try:
        raise error
    finally:
        del error  # which refers to this frame


def iterate(
    path: str, seconds: float, items: Iterable[Result], batch: int = _BATCH
) -> Iterator[Result]:
    """Items that are read from a file, `batch` of them within `seconds`.

    Args:
        path: The file.
        seconds: `limits.seconds`.
        items: For example a generator. Each item is made in another thread, but
            never two at once.
        batch: How many are in memory at once.

    Raises:
        VideoError: Not in time.
        Exception: Raised by the iterator.
    """
    iterator = iter(items)
    while taken := within(path, seconds, _take, iterator, batch):
        yield from taken


def check() -> None:
    """Raises `VideoError` in a call of `within` whose time is over."""
    call = _current()
    if call and time.monotonic() > call.deadline:
        raise call.too_late()


def _take(iterator: Iterator[Result], count: int) -> list[Result]:
    return list(itertools.islice(iterator, count))


class _Call:
    """A call of a function, and its outcome: a result or an error."""

    def __init__(self, path: str, seconds: float, function, args):
        self.path, self.seconds = path, seconds
        self.function, self.args = function, args
        self.deadline = time.monotonic() + seconds
        self.outcome = queue.SimpleQueue()

    def run(self) -> None:
        try:
            self.outcome.put((self.function(*self.args), None))
        except BaseException as error:
            self.outcome.put((None, error))

    def wait(self):
        while (left := self.deadline + _GRACE - time.monotonic()) > 0:
            try:
                return self.outcome.get(timeout=left)
            except queue.Empty:
                pass  # the deadline may have been moved
        raise self.too_late()

    def too_late(self):
        found = f"not read within {self.seconds:g} s"
        return too_much(self.path, found, "seconds", self.seconds)


class _Thread(threading.Thread):
    """Runs one call after another. A daemon: it never keeps the process from ending."""

    def __init__(self):
        super().__init__(name="video reader", daemon=True)
        self.calls = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        while (call := self.calls.get()) is not None:
            _running.call = call
            call.run()
            del call, _running.call  # and what they refer to


def _current() -> _Call | None:
    return getattr(_running, "call", None)


def _idle_thread() -> _Thread:
    try:
        return _idle.pop()
    except IndexError:
        return _Thread()


_running = threading.local()
_idle: collections.deque[_Thread] = collections.deque()
os.register_at_fork(after_in_child=_idle.clear)  # which has no threads
