"""Reading under limits of time and memory: a hang or a bomb becomes a failure."""

import contextlib
import pathlib
import resource
import signal
import threading
import time
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


@contextlib.contextmanager
def measured_child():
    """Yields a list that gets the bytes that a child process took at most.

    `getrusage` would count what this process had when it started the child.
    """
    peak, done = [0], threading.Event()
    parent = threading.get_native_id()

    def watch():
        while not done.is_set():
            peak[0] = max(peak[0], *memory_of_children(parent), 0)
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def memory_of_children(thread):
    """Largest resident memory so far of each child of a thread of this process."""
    children = pathlib.Path(f"/proc/self/task/{thread}/children")
    for child in children.read_text().split() if children.exists() else ():
        with contextlib.suppress(OSError):
            # Until it runs its own program, it has the memory of this process.
            command = pathlib.Path(f"/proc/{child}/cmdline").read_bytes()
            status = pathlib.Path(f"/proc/{child}/status").read_text()
            if b"child.main" in command and "VmHWM" in status:
                yield int(status.split("VmHWM:")[1].split()[0]) * 2**10
