"""The benchmark of whole tests of videos runs, and all have the same probabilities."""

import importlib
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"
OURS = ["ours, `--mode predict`", "ours, `--mode eval`"]


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("video_test")


def run(*options):
    """Cells of the table's rows; the exit status is 1 if probabilities differ."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "video_test.py", "--quick", *options],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    _, table = done.stdout.split("| --- |\n")
    return [line.strip("| ").split(" | ") for line in table.strip().splitlines()]


@pytest.mark.backends
def test_the_loops_have_our_probabilities():
    rows = run()
    peers = ["PySlowFast's loop", "mmaction2's loop"]
    assert [cells[0].split(", PyTorch")[0] for cells in rows] == OURS + peers
    assert all(float(cells[-1]) < 1e-4 for cells in rows)


@pytest.mark.slow
def test_ours_are_measured_without_peers():
    one_view = "--ours eval,export --num-clips 1 --num-crops 1".split()
    rows = run("--no-peers", *one_view)
    assert [cells[0] for cells in rows] == [*OURS, f"{OURS[0][:-1]} --export_dir`"]
    assert all(float(cells[2].split()[0]) > 0 for cells in rows)


@pytest.mark.slow
def test_without_torch_ours_are_measured(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    rows = run("--ours", "predict", "--peer-python", str(python))
    assert [cells[0] for cells in rows] == OURS[:1]


def test_clips_that_are_not_there_are_named(benchmark, monkeypatch, tmp_path):
    options = ["video_test.py", "--clips", str(tmp_path / "gone.mp4")]
    monkeypatch.setattr(sys, "argv", options)
    with pytest.raises(SystemExit, match="^error: .*gone.mp4: no such file"):
        benchmark.prepare(benchmark.parse_arguments(), tmp_path)


def test_an_export_scores_one_view(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", "video_test.py --ours export".split())
    with pytest.raises(SystemExit):
        benchmark.parse_arguments()
    assert "--num-clips 1 --num-crops 1" in capsys.readouterr().err


def test_a_loop_with_other_probabilities_is_an_error(benchmark, capsys):
    from harness.clock import Figure, Measured
    from harness.networks import Case
    from harness.video_test_job import Job

    case = Case("NL-I3D", "float32", 14, 8, 1, 4, 32)
    protocols = ["spread", "pyslowfast", "mmaction2"]
    fields = {
        "case": case,
        "protocols": protocols,
        "clips": 2,
        "crops": 3,
        "workers": 1,
    }
    spread, dense = np.float32([0.5, 0.5]), np.float32([0.25, 0.75])

    def measured(milliseconds, *values):
        names = "video ms", "video CPU ms", "process MiB"
        return Measured({x: Figure.of([milliseconds]) for x in names}, list(values))

    wrong = benchmark.print_rows(
        types.SimpleNamespace(add=lambda row, figures: None),
        Job(**(dict.fromkeys(Job._fields) | fields)),
        {
            ("predict", ""): measured(2e3, spread, dense, dense),
            ("eval", ""): measured(2e3, spread),
            ("PySlowFast", "eager"): measured(5e3, dense),
            ("mmaction2", "eager"): measured(3e3, spread),
        },
    )
    [found] = wrong
    assert found.startswith("mmaction2's loop, PyTorch, eager, float32: ")
    rows = [x.strip("| ").split(" | ") for x in capsys.readouterr().out.splitlines()]
    assert [cells[3] for cells in rows] == ["1.00", "1.00", "2.50", "1.50"]
