"""Signals that stop training between two steps instead of in the middle of one."""

import contextlib
import os
import signal
import stat
import threading

from trainers.core.errors import Interrupted


class StopRequest:
    """Context that records SIGTERM, SIGINT and SIGHUP; `check` raises for them.

    A second SIGINT raises `KeyboardInterrupt` at once. SIGHUP stays ignored if it is,
    as under `nohup`.
    """

    def __init__(self):
        self._signum = None
        self._previous = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if signal.getsignal(signum) != signal.SIG_IGN:
                    self._previous[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *_):
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def _note(self, signum, frame):
        if self._signum == signal.SIGINT == signum:
            raise KeyboardInterrupt
        if signum == signal.SIGHUP:
            _leave_terminal()
        if self._signum is None:
            force = (
                " Press Ctrl-C again to force it." if signum == signal.SIGINT else ""
            )
            with contextlib.suppress(OSError):  # stderr may be gone
                os.write(2, f"\nStopping after this step.{force}\n".encode())
        self._signum = signum

    @property
    def is_requested(self) -> bool:
        """Whether a signal has been received."""
        return self._signum is not None

    def check(self):
        """Raises `Interrupted` if a signal has been received."""
        if self.is_requested:
            raise Interrupted(self._signum)


def _leave_terminal():
    """Discards further output to a terminal, which has been closed."""
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.dup2(null, descriptor)
    os.close(null)
