"""Time of several steps turn by turn; peak memory of one."""

import ctypes
import gc
import pathlib
import statistics
import time

PAUSE = 0.005  # seconds; OpenMP threads spin on for about a millisecond
BURST = 3  # calls timed in a turn, after one that refills the caches


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
            step()  # a network runs one framework's kernels, one after another
            times[name] += [_milliseconds(step) for _ in range(BURST)]
    return {name: statistics.median(t) for name, t in times.items()}


class PeakMemory:
    """MiB by which this process grows, at most, from here to the end of a step.

    None where the system keeps no resettable peak (it is Linux's VmHWM).
    """

    def __init__(self):
        _hand_back_freed_memory()
        self._idle = _status_mib("VmRSS") if _reset_peak() else None

    def mib(self, step):
        """The peak over one call of `step`, what it returns included."""
        if self._idle is None:
            return None
        _reset_peak()
        result = step()
        peak = _status_mib("VmHWM") - self._idle
        del result
        return max(peak, 0.0)


def _milliseconds(step):
    start = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - start)


def _hand_back_freed_memory():
    """What was freed but is still held would be used again uncounted."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def _reset_peak():
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status_mib(key):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {key}.")
