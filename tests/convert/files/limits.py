"""Reading under limits of time and memory: a hang or a bomb becomes a failure."""

import contextlib
import pathlib
import resource
import signal
import tracemalloc

HEADROOM = 2**30
STATUS = "/proc/self/statm"  # Linux; elsewhere only time is limited


class TookTooLong(BaseException):
    """Not an Exception: nothing on the way may take it for a damaged file."""


@contextlib.contextmanager
def limited(seconds=20, headroom=HEADROOM):
    """Stops after `seconds`, and lets memory grow by `headroom` bytes at most."""

    def stop(*_):
        raise TookTooLong

    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    if pathlib.Path(STATUS).exists():
        limit = address_space() + headroom
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def address_space():
    pages = pathlib.Path(STATUS).read_text().split()[0]
    return int(pages) * resource.getpagesize()


@contextlib.contextmanager
def measured_peak():
    """Yields a list that gets the bytes that Python and NumPy took at most."""
    peak = []
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
