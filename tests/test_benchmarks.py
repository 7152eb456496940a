"""The benchmarks run, and compare equals with equals."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"
SCRIPTS = ["non_local_op.py", "non_local_block.py"]
QUICK = {
    "non_local_op.py": "--quick --no-memory --peers published,broadcast,sdpa,keras",
    "non_local_block.py": "--quick --modes embedded_gaussian,concatenation "
    "--dtypes float32",
}
FORMS = {
    "non_local_op.py": ["ours", "published", "broadcast", "SDPA", "keras.ops"],
    "non_local_block.py": ["PySlowFast", "AlexHex7", "mmcv"],
}
OURS_ALONE = {
    "non_local_op.py": "--quick --no-memory --modes dot_product --dtype bfloat16",
    "non_local_block.py": "--quick --modes dot_product --peers mmcv",
}
HIDE_TORCH = (
    "import importlib.util as u; find = u.find_spec; "
    "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a); "
)


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name):
        return importlib.import_module(f"harness.{name}")

    return load


def run(script, *options, prelude=""):
    start = f"sys.path.insert(0, {str(BENCHMARKS)!r}); sys.argv = sys.argv[1:]"
    script = str(BENCHMARKS / script)
    code = f"import runpy, sys; {prelude}{start}; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", code, script, *options],
        # Threads that wait by spinning crawl where other tests want the cores, too.
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_peers_have_our_values(script):
    pytest.importorskip("torch")
    done = run(script, *QUICK[script].split())  # ends with 1 if they have not
    assert done.returncode == 0, done.stderr
    assert not [form for form in FORMS[script] if form not in done.stdout]


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_torch_our_times_remain(script):
    done = run(script, *OURS_ALONE[script].split(), prelude=HIDE_TORCH)
    assert done.returncode == 0, done.stderr
    assert "PyTorch is not installed" in done.stdout
    rows = [line for line in done.stdout.splitlines() if "| dot_product |" in line]
    assert rows and not any("PyTorch" in row for row in rows)


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_peer_is_named(script):
    done = run(script, "--peers", "pytorch")
    assert done.returncode == 2
    assert "'pytorch' is none of" in done.stderr


def test_an_unknown_shape_is_named(harness):
    operands = harness("operands")
    assert operands.parse_shape("12x3x4") == (12, 3, 4)
    for text in ("res6", "12x3", "12x0x4", "axbxc"):
        with pytest.raises(ValueError, match=f"Unknown shape '{text}'.*res3.*NxMxd"):
            operands.parse_shape(text)


def test_wrong_values_are_seen(harness):
    found = [np.ones(4), np.array([3.0, 4.5])]
    expected = [np.ones(4), np.array([3.0, 4.0])]
    assert harness("operands").relative_error(found, expected) == pytest.approx(0.1)


def test_turns_alternate_and_end_in_time(harness, monkeypatch):
    calls = []
    steps = {name: lambda name=name: calls.append(name) for name in "ab"}
    measure = harness("measure")
    assert set(measure.medians(steps, repeats=9, seconds=0)) == {"a", "b"}
    assert calls == list("aaaabbbb" * 3)  # one to refill the caches, three timed
    calls.clear()
    monkeypatch.setattr(measure, "LONG", 0)  # now every call is a long one
    measure.medians(steps, repeats=5, seconds=60)
    assert calls == list("ab" * 5)


def test_peak_memory_is_that_of_the_maps(harness):
    """The published product: two maps of 16 MiB at a time, forward and backward."""
    pytest.importorskip("torch")
    shape = harness("operands").OpShape(2048, 2048, 16)
    peak = harness("op_memory").peaks("published", "dot_product", "float32", shape)
    if peak[0] is None:
        pytest.skip("this system keeps no resettable peak of memory")
    assert peak == pytest.approx([32, 32], abs=3)


def test_an_aborted_process_has_no_peak(harness, monkeypatch):
    memory = harness("op_memory")
    done = subprocess.CompletedProcess([], -9, "", "")
    monkeypatch.setattr(memory.subprocess, "run", lambda *_, **__: done)
    assert memory.peaks("keras", "gaussian", "float32", (1, 1, 1)) is None
