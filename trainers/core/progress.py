"""Progress of long loops: loss, speed, wait for input and remaining time."""

import contextlib
import datetime
import sys
import time

import tqdm


class Stopwatch:
    """Measures how long a loop takes, and how much of that it waits for input."""

    def __init__(self):
        self.reset()

    def reset(self):
        """Restarts all measurements."""
        self._start = time.perf_counter()
        self._waited = 0.0
        self._steps = 0

    @contextlib.contextmanager
    def waiting(self):
        """Context that measures the wait for the input of one step."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start
        self._steps += 1

    @property
    def steps_per_second(self) -> float:
        return self._steps / max(time.perf_counter() - self._start, 1e-9)

    @property
    def input_wait(self) -> float:
        """Fraction of the time spent waiting for input, 0 to 1."""
        return self._waited / max(time.perf_counter() - self._start, 1e-9)


class ProgressBar:
    """Progress on stderr: a tqdm bar on a terminal, elsewhere a line now and then.

        train: 120/400 (30%), loss=1.234, input_wait=12%, 3.1 steps/s, 0:01:30 left

    Args:
        description: Shown before the bar.
        total: Number of steps; None if unknown.
        start: Steps done before.
        enabled: False shows nothing (workers other than the chief).
        leave: Whether the finished bar stays on the screen, or is a last line.
        unit: Name of a step.
        seconds_per_line: Time between two lines.
    """

    def __init__(
        self,
        description,
        total=None,
        start=0,
        enabled=True,
        leave=True,
        unit="step",
        seconds_per_line=10.0,
    ):
        if not enabled or sys.stderr.isatty():
            self._bar = tqdm.tqdm(
                desc=description,
                total=total,
                initial=start,
                unit=unit,
                dynamic_ncols=True,
                mininterval=0.5,
                disable=not enabled,
                leave=leave,
            )
        else:
            self._bar = _Lines(description, total, start, unit, seconds_per_line, leave)

    def show(self, **values):
        """Sets the values that are shown behind the bar."""
        shown = {name: _format(name, value) for name, value in values.items()}
        self._bar.set_postfix(shown, refresh=False)

    def advance(self, count: int = 1):
        """Counts steps."""
        self._bar.update(count)

    def update_of(self, total):
        """Counts a step, and sets the total (None if unknown)."""
        self._bar.total = total
        self._bar.update()

    def write(self, text: str):
        """Prints text to stdout, above the bar."""
        self._bar.write(text)

    def close(self):
        """Shows the last state."""
        self._bar.close()


class _Lines:
    """The part of tqdm's interface that is used here, as lines of plain text."""

    def __init__(self, description, total, start, unit, seconds_per_line, leave):
        self.total, self._leave = total, leave
        self._description = description
        self._units = f"{unit}s" if unit.islower() else unit  # steps, kB
        self._start = self._done = self._printed = start
        self._values = {}
        self._interval = seconds_per_line
        self._began = self._last = time.monotonic()

    def set_postfix(self, values, refresh):
        self._values = values

    def update(self, count=1):
        self._done += count
        if time.monotonic() - self._last >= self._interval:
            self._print()

    def write(self, text):
        print(text, flush=True)

    def close(self):
        if self._leave and self._done > self._printed:
            self._print()

    def _print(self):
        self._printed, self._last = self._done, time.monotonic()
        values = [f"{name}={value}" for name, value in self._values.items()]
        line = ", ".join([self._position(), *values, *self._speed()])
        print(f"{self._description}: {line}", file=sys.stderr, flush=True)

    def _position(self) -> str:
        if not self.total:
            return f"{self._done} {self._units}"
        return f"{self._done}/{self.total} ({self._done / self.total:.0%})"

    def _speed(self) -> list[str]:
        seconds = max(self._last - self._began, 1e-9)
        speed = (self._done - self._start) / seconds
        shown = [f"{speed:.3g} {self._units}/s"]
        if self.total and speed:
            left = datetime.timedelta(seconds=round((self.total - self._done) / speed))
            shown.append(f"{left} left")
        return shown


def _format(name: str, value: float) -> str:
    return f"{value:.0%}" if name == "input_wait" else f"{value:.4g}"
