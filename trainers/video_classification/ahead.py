"""Runs an iterator in another thread, a bounded number of items ahead."""

import collections
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Ahead:
    """Iterates over items that another thread makes meanwhile.

    Args:
        items: Iterated once, in that thread. Its exception is raised here.
        size: Number of items that may wait.
        drops_oldest: At a full queue, the oldest item is dropped, instead of waiting
            for room: for items that come when they come.

    Attributes:
        dropped: How many were.
    """

    def __init__(self, items: Iterable[Item], size: int, drops_oldest: bool = False):
        self.dropped = 0
        self._items, self._size, self._drops = items, size, drops_oldest
        self._queue: collections.deque[Item] = collections.deque()
        self._changed = threading.Condition()
        self._ended, self._error = False, None
        # A daemon: a read that never returns does not keep the process from ending.
        threading.Thread(target=self._run, name="ahead", daemon=True).start()

    def __iter__(self) -> Iterator[Item]:
        while (found := self.take()) is not None:
            yield from found

    def take(self, seconds: float | None = None) -> list[Item] | None:
        """The next item, as a list; None at the end; empty if none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ended, seconds)
            if self._queue:
                self._changed.notify_all()
                return [self._queue.popleft()]
            if self._ended and self._error:
                raise self._error
            return None if self._ended else []

    def close(self) -> None:
        """Ends the other thread, when its present item is made."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _run(self):
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:
            self._error = error
        self.close()

    def _put(self, item: Item) -> bool:
        """Adds an item; False if nobody waits for it."""
        with self._changed:
            while len(self._queue) >= self._size and not self._ended:
                if self._drops:
                    self._queue.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            self._queue.append(item)
            self._changed.notify_all()
            return not self._ended
