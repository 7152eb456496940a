"""The benchmark of a step's overhead runs."""

import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "step_overhead.py"


@pytest.mark.slow
def test_a_step_takes_longer_than_its_graph_alone():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick"],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "a smoke test" in done.stdout
    graph, trainer = (float(row.split("|")[2]) for row in done.stdout.splitlines()[-2:])
    assert 10 < graph < trainer
