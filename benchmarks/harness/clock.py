"""The clock of all benchmarks.

Each subject runs in a process of its own, which is warmed up and then stopped whenever
another is measured. In several rounds, each in a random order, every process makes a
call that is not timed, and then those that are. Figures are medians over rounds, with
their quartiles. Memory is measured in further processes.
"""

import contextlib
import pathlib
import random
import shutil
import statistics
import sys
import tempfile
import time
import weakref
from typing import NamedTuple

from harness import machine
from harness.workers import RETURN_AT_ONCE, CannotRun, OutOfMemory, Team, Worker, call

LEAST_ROUNDS = 3


class Figure(NamedTuple):
    """Median and quartiles over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values):
        if len(values) == 1:
            return cls(*values * 3)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


class Measured(NamedTuple):
    """Figures by name, and the arrays of the first calls; none where memory ran out."""

    figures: dict
    values: list


class Clock:
    """Measures subjects, with the options of `options.clock_parser`.

    It exits with an error if others use much of the machine.
    """

    def __init__(self, args):
        self._args = args
        self._order = random.Random(0)
        self._said = set()
        self.loads = []  # of others, per core, in each round
        self.folder = pathlib.Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        if not (args.any_load or args.quick or args.only == "memory"):
            _refuse_load()

    def measure(self, subjects, memory=True):
        """A `Measured` of each subject that can run, by the keys of `subjects`."""
        found = {key: Measured({}, []) for key in subjects}
        if memory and self._args.only != "time":
            for key, subject in subjects.items():
                peaks = self._peaks(subject)
                found[key].figures.update(peaks or {})
                if peaks is None:
                    del found[key]
        if self._args.only != "memory":
            wanted = {key: subjects[key] for key in found}
            times = self._times(wanted)
            found = {key: found[key] for key in times}
            for key, (figures, values) in times.items():
                found[key].figures.update(figures)
                found[key].values.extend(values)
        return found

    def attempt(self, subject, *arguments):
        """What `workers.call` returns, or {}; None where a peer cannot run."""
        try:
            return call(subject, *arguments) or {}
        except CannotRun as error:
            self._leave_out(subject, error)
            return None

    def values(self, subject):
        """The arrays of its first calls alone."""
        with contextlib.closing(Worker(subject, self._values_path())) as worker:
            return worker.values()

    # === Memory ===

    def _peaks(self, subject):
        """Figures; none if memory ran out, None if it cannot run here."""
        progress(f"memory of {subject.label}")
        try:
            peaks = self.attempt(subject.memory or subject, "memory", RETURN_AT_ONCE)
        except OutOfMemory:
            return {}
        if peaks is None:
            return None
        return {name: Figure(mib, mib, mib) for name, mib in peaks.items()}

    # === Time ===

    def _times(self, subjects):
        """(figures, values) of those that can run."""
        team = Team(subjects, self._values_path)
        rounds = {key: [] for key in subjects}
        values = {key: [] for key in subjects}
        try:
            start = None
            for number in range(self._args.rounds):
                if number >= LEAST_ROUNDS and self._is_over(start):
                    break
                load = machine.Load()
                for key in self._order.sample(list(rounds), len(rounds)):
                    progress(f"round {number + 1}, {subjects[key].label}")
                    try:
                        values[key], measured = team.measure(key)
                        rounds[key].append(measured)
                    except OutOfMemory:
                        del rounds[key]
                    except CannotRun as error:
                        self._leave_out(subjects[key], error)
                        del rounds[key], values[key]
                self.loads.append(load.per_core())
                start = start or time.monotonic()  # set-up is part of the first round
        finally:
            team.close()
        return {key: (_figures(rounds.get(key)), values[key]) for key in values}

    def _is_over(self, start):
        return time.monotonic() - start > self._args.seconds

    def _values_path(self):
        return self.folder / f"values{time.monotonic_ns()}.npz"

    def _leave_out(self, subject, error):
        if not subject.is_peer:
            sys.exit(f"error: {subject.label}: {error}")
        if subject.label not in self._said:
            print(f"{subject.label} is left out: {error}", file=sys.stderr)
        self._said.add(subject.label)


def _figures(rounds):
    if not rounds:
        return {}
    return {name: Figure.of([r[name] for r in rounds]) for name in rounds[0]}


def _refuse_load():
    load = machine.Load()
    time.sleep(1)
    used = load.per_core()
    if used > machine.MUCH:
        sys.exit(
            f"error: other programs use {used:.1f} of each core, so times would mean "
            "little. Wait until they have ended, or go on with --any-load."
        )


def progress(text):
    if sys.stderr.isatty():
        print(f"... {text}", file=sys.stderr)
