"""Limits of the process, which hold whatever a library does with a damaged file."""

import contextlib
import math
import os
import pathlib
import sys

try:
    import resource
except ImportError:  # Windows: the parent's time limit remains
    resource = None

BASE = 2**31  # address space of Python and NumPy where it cannot be measured
FORBIDDEN = (
    *("ctypes.", "pty.", "shutil.", "socket.", "subprocess.", "urllib."),
    *("os.chmod", "os.chown", "os.exec", "os.fork", "os.kill", "os.link", "os.mkdir"),
    *("os.posix_spawn", "os.remove", "os.rename", "os.rmdir", "os.spawn"),
    *("os.startfile", "os.symlink", "os.system", "os.truncate"),
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def leave_network():
    """Moves into a network without devices, where the system permits."""
    if hasattr(os, "unshare"):  # Linux, Python 3.12
        user = os.CLONE_NEWUSER if os.geteuid() else 0
        with contextlib.suppress(OSError):
            os.unshare(user | os.CLONE_NEWNET)


def restrict(scratch, memory, seconds, file_size):
    """Limits what follows: bytes and seconds beyond those used for the imports."""
    if resource:
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds += math.ceil(used.ru_utime + used.ru_stime)
        set_limit(resource.RLIMIT_CPU, seconds)
        set_limit(resource.RLIMIT_FSIZE, file_size)
        set_limit(resource.RLIMIT_NOFILE, 256)
        set_limit(resource.RLIMIT_CORE, 0)
        set_limit(resource.RLIMIT_AS, address_space() + memory)
    sys.addaudithook(guard(os.path.join(os.path.realpath(scratch), "")))


def set_limit(kind, value):
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(ValueError, OSError):  # not every system has them all
        resource.setrlimit(kind, (value, hard))


def address_space():
    status = pathlib.Path("/proc/self/statm")
    pages = status.exists() and int(status.read_text().split()[0])
    return pages * resource.getpagesize() or BASE


def guard(scratch):
    """An audit hook: no network, no processes, nothing written but in `scratch`."""

    def hook(event, arguments):
        if event.startswith(FORBIDDEN):
            raise PermissionError(f"{event} is not permitted")
        if event == "open" and (arguments[2] or 0) & WRITING:
            if not os.path.realpath(arguments[0]).startswith(scratch):
                raise PermissionError(f"writing {arguments[0]!r} is not permitted")

    return hook
