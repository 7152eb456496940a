"""The clock of the benchmarks, on subjects that only sleep or allocate; the record."""

import argparse
import contextlib
import importlib
import json
import pathlib
import textwrap
import time

import psutil
import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"
SUBJECTS = """
    import os, pathlib, signal, time
    import numpy as np
    from harness.process import Made

    def sleeper(name, log):
        def step():
            with open(log, "a") as file:
                file.write(name)
            time.sleep(0.21)  # long enough for one timed call in a round
            return np.full(2, 7.0)
        return Made({"step": step}, lambda: [step()])

    def spinner():
        def step():
            end = time.process_time() + 0.2
            while time.process_time() < end:
                pass
        return Made({"step": step})

    def allocator(mib):
        return Made({"step": lambda: np.ones(mib * 2**17)}, operands=10)

    def gone():
        return Made({"step": lambda: os.kill(os.getpid(), signal.SIGKILL)})

    def broken():
        raise ImportError("No module named 'frame'")

    def counter(log):
        pathlib.Path(log).open("a").write("x")
        found = iter([3, 1, 2, 4, 5])
        return Made({}, measure=lambda: {"clip ms": next(found)})

    def noisy():
        print("a library says something")
        return Made({"step": lambda: print("and again")})

    def settings(sent):
        return [sent, os.environ["KERAS_BACKEND"]]
"""


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: importlib.import_module(f"harness.{name}")


@pytest.fixture
def clock(harness, monkeypatch, tmp_path):
    """The module; its processes find `SUBJECTS`."""
    (tmp_path / "subjects.py").write_text(textwrap.dedent(SUBJECTS))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # Processes are kept, however much memory other tests use meanwhile.
    monkeypatch.setattr(harness("workers"), "LEAST_AVAILABLE", 0)
    return harness("clock")


@pytest.fixture
def subject(harness):
    """Makes a subject of `SUBJECTS`."""

    def make(name, *arguments, **fields):
        made = f"subjects:{name}", arguments
        return harness("workers").Subject(name, *made, **fields)

    return make


def options(**changed):
    chosen = {"rounds": 3, "seconds": 60, "only": "time", "any_load": True}
    return argparse.Namespace(**chosen | {"quick": False} | changed)


def measure(clock, *subjects, **changed):
    watch = clock.Clock(options(**changed))
    return watch, watch.measure({one.label: one for one in subjects})


# === Time ===


def test_rounds_are_in_random_order_and_have_a_call_that_is_not_timed(
    clock, tmp_path, subject
):
    log = tmp_path / "log"
    subjects = {name: subject("sleeper", name, str(log)) for name in "abc"}
    watch = clock.Clock(options(rounds=4))
    measured = watch.measure(subjects)
    calls = log.read_text()
    orders = [calls[:9:3], *(calls[start : start + 6 : 2] for start in (9, 15, 21))]
    first, *others = orders  # in the first round also the calls of the set-up
    assert calls == "".join([x * 3 for x in first]) + "".join(
        x * 2 for order in others for x in order
    )
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 1
    assert len(watch.loads) == 4
    for figures, values in measured.values():
        wall, cpu = figures["step ms"], figures["step CPU ms"]
        assert 210 <= wall.low <= wall.median <= wall.high < 2000
        assert cpu.median < 100
        assert [value.tolist() for value in values] == [[7.0, 7.0]]


def test_the_order_is_the_same_in_every_run(clock):
    samples = [clock.Clock(options())._order.sample("abcdef", 6) for _ in range(2)]
    assert samples[0] == samples[1] != list("abcdef")


def test_figures_are_medians_with_quartiles(clock, tmp_path, subject):
    _, measured = measure(clock, subject("counter", str(tmp_path / "log")), rounds=5)
    assert measured["counter"].figures == {"clip ms": (3, 2, 4)}


def test_three_rounds_are_taken_however_long(clock, tmp_path, subject):
    _, measured = measure(
        clock, subject("counter", str(tmp_path / "log")), rounds=5, seconds=0
    )
    assert measured["counter"].figures == {"clip ms": (2, 1.5, 2.5)}


def test_where_memory_is_scarce_each_round_starts_the_process_again(
    clock, harness, tmp_path, monkeypatch, subject
):
    monkeypatch.setattr(harness("workers"), "LEAST_AVAILABLE", 2)  # more than there is
    logs = [tmp_path / name for name in "ab"]
    subjects = {log.name: subject("counter", str(log)) for log in logs}
    clock.Clock(options()).measure(subjects)
    # One that is last in a round and first in the next goes on.
    assert sum(len(log.read_text()) for log in logs) >= 4


def test_processes_are_stopped_meanwhile_and_end(clock, harness, tmp_path, subject):
    subjects = {x: subject("sleeper", x, str(tmp_path / "log")) for x in "ab"}
    team = harness("workers").Team(subjects, lambda: tmp_path / "values.npz")
    before = set(psutil.Process().children())
    with contextlib.closing(team):
        for key in subjects:
            team.measure(key)
        processes = set(psutil.Process().children()) - before
        assert len(processes) == 2
        for process in processes:
            wait_until(lambda one=process: one.status() == psutil.STATUS_STOPPED)
    assert not set(psutil.Process().children()) - before


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# === What can happen ===


def test_a_peer_that_cannot_run_is_left_out_with_its_reason(
    clock, capsys, tmp_path, subject
):
    counter = subject("counter", str(tmp_path / "log"))
    broken = subject("broken", is_peer=True)
    _, measured = measure(clock, broken, counter, only=None)
    assert list(measured) == ["counter"]
    shown = capsys.readouterr().err
    assert shown == "broken is left out: ImportError: No module named 'frame'\n"


def test_ours_that_cannot_run_is_an_error(clock, subject):
    with pytest.raises(SystemExit, match="^error: broken: ImportError: No module"):
        measure(clock, subject("broken"))


def test_a_process_that_the_system_ends_has_no_figures(clock, tmp_path, subject):
    counter = subject("counter", str(tmp_path / "log"))
    _, measured = measure(clock, subject("gone"), counter, only=None)
    assert measured["gone"] == ({}, [])
    assert measured["counter"].figures["clip ms"].median == 2


def test_what_libraries_print_is_no_answer(clock, subject):
    _, measured = measure(clock, subject("noisy"))
    assert measured["noisy"].figures["step ms"].median >= 0


def test_a_function_is_called_in_a_process(clock, harness, monkeypatch, subject):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    found = harness("workers").call(subject("settings", {"a": [1, "b"]}))
    assert found == [{"a": [1, "b"]}, "tensorflow"]


# === Load and memory ===


def test_the_load_of_others_leaves_out_our_processes(clock, harness, subject):
    """The spinner is ours; so is what ended. Another session's process is not."""
    before = harness("machine")._cpu_seconds()
    measure(clock, subject("spinner"))
    after = harness("machine")._cpu_seconds()
    _, busy, ours = (y - x for x, y in zip(before, after, strict=True))
    assert ours > (1 + 3 * 2) * 0.2  # the set-up, and three rounds
    assert busy > ours - 0.1


def test_a_busy_machine_is_an_error(clock, harness, monkeypatch):
    monkeypatch.setattr(harness("machine"), "MUCH", -1)
    with pytest.raises(SystemExit, match="^error: other programs use .*--any-load"):
        clock.Clock(options(any_load=False))
    for accepted in ({"any_load": True}, {"quick": True}, {"only": "memory"}):
        clock.Clock(options(**{"any_load": False} | accepted))


def test_peaks_are_above_the_process_and_its_operands(clock, subject):
    _, measured = measure(clock, subject("allocator", 64), only="memory")
    figures = measured["allocator"].figures
    if not figures:
        pytest.skip("this system keeps no resettable peak of memory")
    assert figures["step MiB"].median == pytest.approx(64 - 10, abs=4)
    assert figures["process MiB"].median > 64 + 10  # Python and NumPy


# === The record ===

MACHINE = "2 cores of A"


def run(rows, date="2026-01-01", machine=MACHINE):
    return {"date": date, "machine": machine, "command": "x", "rows": rows}


def test_a_record_keeps_the_last_figure_of_each_row_on_each_machine(harness):
    report = harness("report")
    runs = []
    for new in (
        run({"a": {"ms": [1, 1, 1], "MiB": [9, 9, 9]}, "b": {"ms": [2, 2, 2]}}),
        run({"a": {"ms": [5, 5, 5]}}, machine="4 cores of B"),
        run({"a": {"ms": [3, 3, 3]}}, "2026-02-02"),
        run({"b": {"ms": [4, 4, 4]}}, "2026-03-03"),
    ):
        runs = report.with_run(runs, new)
    assert [list(one["rows"]) for one in runs] == [["a"], ["a"], ["a"], ["b"]]
    assert runs[0]["rows"] == {"a": {"MiB": [9, 9, 9]}}
    found = report.last_figures(json.loads(report.dumps(runs)), MACHINE)
    assert found == {
        ("a", "MiB"): ((9, 9, 9), "2026-01-01"),
        ("a", "ms"): ((3, 3, 3), "2026-02-02"),
        ("b", "ms"): ((4, 4, 4), "2026-03-03"),
    }


def test_changes_beyond_the_spread_are_shown(harness, capsys):
    report = harness("report")
    known = {
        ("a", "ms"): (report.Figure(100, 98, 102), "2026-01-01"),
        ("b", "ms"): (report.Figure(100, 80, 120), "2026-01-01"),
        ("c", "ms"): (report.Figure(100, 100, 100), "2026-01-01"),
    }
    rows = {"a": {"ms": [90, 89, 91]}, "b": {"ms": [90, 85, 99]}}
    report.print_changes(known, rows | {"c": {"ms": [103, 103, 103]}})
    table = capsys.readouterr().out
    assert "| a | ms | 100 (4%) | 90 (2%) | -10% | 2026-01-01 |" in table
    assert "| b |" not in table and "| c |" not in table
    report.print_changes(known, {"b": {"ms": [101, 99, 110]}})
    assert "No figure has changed" in capsys.readouterr().out
    report.print_changes(known, {"d": {"ms": [1, 1, 1]}})
    assert "The record has no figures" in capsys.readouterr().out


def test_records_of_the_repository_are_as_they_are_written(harness):
    report = harness("report")
    for path in report.RECORDS.glob("*.json"):
        text = path.read_text()
        runs = report.read(path)
        assert report.dumps(runs) == text and runs
        for one in runs:
            assert {"date", "command", "machine", "versions"} <= set(one)
            assert "/" not in one["command"]
