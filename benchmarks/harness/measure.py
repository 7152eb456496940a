"""Time of several steps turn by turn; peak memory of one."""

import ctypes
import gc
import pathlib
import statistics
import time

PAUSE = 0.005  # seconds; idle OpenMP threads spin for about a millisecond
BURST = 3  # calls timed in a turn, after one that refills the caches
LONG = 200  # milliseconds; a call of this length is timed alone, caches or not


def medians(steps, repeats, seconds):
    """Median milliseconds of each step, taken turn by turn.

    Args:
        steps: Dict of functions without arguments, each called before: the first
            call traces, compiles and fills caches.
        repeats: Turns, at most.
        seconds: Time after which no further turn begins; three are always taken.
    """
    times = _all_times(steps, repeats, seconds)
    return {name: statistics.median(t) for name, t in times.items()}


def fastest(steps, repeats, seconds):
    """Milliseconds of each step's fastest call; otherwise as `medians`."""
    times = _all_times(steps, repeats, seconds)
    return {name: min(t) for name, t in times.items()}


def _all_times(steps, repeats, seconds):
    times = {name: [] for name in steps}
    start = time.perf_counter()
    for turn in range(repeats):
        if turn >= 3 and time.perf_counter() - start > seconds:
            break
        for name, step in steps.items():
            time.sleep(PAUSE)
            times[name] += _turn(step)
    return times


def _turn(step):
    first = _milliseconds(step)
    if first > LONG:
        return [first]
    # A network runs one framework's kernels, one after another.
    return [_milliseconds(step) for _ in range(BURST)]


class PeakMemory:
    """Largest growth of this process, in MiB, while it runs a step.

    Counted from the construction of this object, which comes before any operand is
    allocated: a framework may keep memory that it has freed, and reuse it without
    growing. None where the system has no resettable peak (VmHWM of Linux).
    """

    def __init__(self):
        _hand_back_freed_memory()
        self._idle = _status_mib("VmRSS") if _reset_peak() else None

    def mib(self, step, operands):
        """The peak over one call, with what it returns, without `operands` MiB."""
        if self._idle is None:
            return None
        _hand_back_freed_memory()
        _reset_peak()
        result = step()
        peak = _status_mib("VmHWM") - self._idle - operands
        del result
        return max(peak, 0.0)


def peak_of_process():
    """Peak MiB of this process, libraries included; None as above."""
    return _status_mib("VmHWM") if pathlib.Path("/proc/self/status").exists() else None


def _milliseconds(step):
    start = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - start)


def _hand_back_freed_memory():
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
