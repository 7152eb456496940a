"""The benchmark of large maps runs, and reports invalid options."""

import importlib
import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "large_maps.py"


def run(*options):
    return subprocess.run(
        [sys.executable, SCRIPT, *options],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_step_is_timed_beside_the_map_that_it_does_not_build():
    done = run("--quick", "--modes", "dot_product", "--channels", "8")
    assert done.returncode == 0, done.stderr
    assert "a smoke test" in done.stdout
    [row] = [line for line in done.stdout.splitlines() if "| 4x8x8 |" in line]
    assert "| 4x8x8 | 256 | 64 | dot_product |" in row
    ms, peak, pairs = (float(c.replace(",", "")) for c in row.split("|")[5:8])
    assert 0 < ms < 10_000
    assert 100 < peak < 4000  # TensorFlow
    assert pairs == pytest.approx(256 * 64 * 4 / 2**20, abs=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--maps", "64x56"], "'64x56' is not like 64x56x56"),
        (["--maps", "4x1x8"], "sub-sampling takes 2x2 positions"),
        (["--channels", "0"], "not a positive whole number"),
        (["--modes", "dot"], "'dot' is not one of"),
    ],
)
def test_mistakes_in_options_are_named(options, message, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *options])
    with pytest.raises(SystemExit) as caught:
        importlib.import_module("large_maps").main()
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
