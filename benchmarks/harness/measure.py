"""Time of several steps turn by turn; peak memory of one."""

import ctypes
import gc
import pathlib
import statistics
import time

PAUSE = 0.005  # seconds; OpenMP threads spin on for about a millisecond


def medians(steps, repeats, seconds):
    """Median milliseconds of each step, taken turn by turn.

    Args:
        steps: Dict of functions without arguments, each called before: the first
            call traces, compiles and fills caches.
        repeats: Turns, at most.
        seconds: Time after which no further turn begins; three are always taken.
    """
    times = {name: [] for name in steps}
    start = time.perf_counter()
    for turn in range(repeats):
        if turn >= 3 and time.perf_counter() - start > seconds:
            break
        for name, step in steps.items():
            time.sleep(PAUSE)
            times[name].append(_milliseconds(step))
    return {name: statistics.median(t) for name, t in times.items()}


def peak_mib(step):
    """MiB by which this process grows, at most, while it runs `step`.

    The first call, which compiles and loads libraries, is not counted; memory
    that it freed is handed back to the system before the second. None where the
    system keeps no resettable peak (it is Linux's VmHWM).
    """
    if not _can_reset_peak():
        return None
    step()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    idle = _status_mib("VmRSS")
    _reset_peak()
    result = step()  # what it returns counts, too
    peak = _status_mib("VmHWM") - idle
    del result
    return max(peak, 0.0)


def _milliseconds(step):
    start = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - start)


def _can_reset_peak():
    try:
        _reset_peak()
    except OSError:
        return False
    return hasattr(ctypes.CDLL(None), "malloc_trim")


def _reset_peak():
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def _status_mib(key):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {key}.")
