"""The progress bar: loss, speed, wait for input and remaining time."""

import contextlib
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
    """A tqdm bar on stderr: `loss 1.234, input wait 12%`, steps/s and ETA.

    Args:
        description: Shown before the bar.
        total: Number of steps; None if unknown.
        start: Steps done before.
        enabled: False shows nothing (workers other than the chief).
        leave: Whether the finished bar stays on the screen.
    """

    def __init__(self, description, total=None, start=0, enabled=True, leave=True):
        self._bar = tqdm.tqdm(
            desc=description,
            total=total,
            initial=start,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 10,  # logs stay short
            disable=not enabled,
            leave=leave,
        )

    def update(self, **values):
        """Counts a step; the values are shown behind the bar."""
        shown = {name: _format(name, value) for name, value in values.items()}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def update_of(self, total):
        """Counts a step, and sets the total (None if unknown)."""
        self._bar.total = total
        self._bar.update()

    def write(self, text: str):
        """Prints text to stdout, above the bar."""
        self._bar.write(text)

    def close(self):
        self._bar.close()


def _format(name: str, value: float) -> str:
    return f"{value:.0%}" if name == "input_wait" else f"{value:.4g}"
