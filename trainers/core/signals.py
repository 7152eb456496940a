"""Signals that stop training between two steps instead of in the middle of one."""

import contextlib
import os
import signal
import stat
import threading
from collections.abc import Sequence

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequest:
    """Context that records SIGTERM, SIGINT and SIGHUP.

    A second SIGINT raises `KeyboardInterrupt` at once. SIGHUP stays ignored if it is,
    as under `nohup`.

    Attributes:
        signum: Number of the signal received last, or None.
    """

    def __init__(self):
        self.signum = None
        self._previous = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                if signal.getsignal(signum) != signal.SIG_IGN:
                    self._previous[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *_):
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def _note(self, signum, frame):
        if self.signum == signal.SIGINT == signum:
            raise KeyboardInterrupt
        if signum == signal.SIGHUP:
            _leave_terminal()
        if self.signum is None:
            force = (
                " Press Ctrl-C again to force it." if signum == signal.SIGINT else ""
            )
            with contextlib.suppress(OSError):  # stderr may be gone
                os.write(2, f"\nStopping after this step.{force}\n".encode())
        self.signum = signum

    @property
    def votes(self) -> list[int]:
        """1 for the signal received, else 0, by the order of `SIGNALS`."""
        return [int(signum == self.signum) for signum in SIGNALS]


def elected(votes: Sequence[int]) -> int | None:
    """The first signal with votes."""
    return next((s for s, n in zip(SIGNALS, votes, strict=True) if n), None)


def _leave_terminal():
    """Discards further output to a terminal, which has been closed."""
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.dup2(null, descriptor)
    os.close(null)
