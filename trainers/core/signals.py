"""Signals that stop training between two steps instead of in the middle of one."""

import signal
import threading

from trainers.core.errors import Interrupted


class StopRequest:
    """Context that records SIGTERM and SIGINT; `check` raises for them.

    A second SIGINT raises `KeyboardInterrupt` at once.
    """

    def __init__(self):
        self._signum = None
        self._previous = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT):
                self._previous[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *_):
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def _note(self, signum, frame):
        if self._signum == signal.SIGINT == signum:
            raise KeyboardInterrupt
        self._signum = signum

    def check(self):
        """Raises `Interrupted` if a signal has been received."""
        if self._signum is not None:
            raise Interrupted(self._signum)
