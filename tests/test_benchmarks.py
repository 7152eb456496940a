"""The benchmarks run, and the compared forms compute the same values."""

import functools
import importlib.util
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.parity import comparing, seeded

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
    "non_local_op.py": "--quick --no-memory --alone --modes dot_product "
    "--dtype bfloat16",
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


def run(script, *options, prelude="", backend="tensorflow"):
    start = f"sys.path.insert(0, {str(BENCHMARKS)!r}); sys.argv = sys.argv[1:]"
    script = str(BENCHMARKS / script)
    code = f"import runpy, sys; {prelude}{start}; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", code, script, *options],
        # Threads that wait by spinning crawl where other tests want the cores, too.
        env={**os.environ, "KERAS_BACKEND": backend, "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
    )


@pytest.mark.backends
@pytest.mark.parametrize("script", SCRIPTS)
def test_peers_have_our_values(script):
    done = run(script, *QUICK[script].split())  # exit status 1 if values differ
    assert done.returncode == 0, done.stderr
    assert not [form for form in FORMS[script] if form not in done.stdout]


@pytest.mark.parametrize(
    "script",
    ["non_local_block.py", pytest.param("non_local_op.py", marks=pytest.mark.slow)],
)
def test_without_torch_our_times_remain(script):
    done = run(script, *OURS_ALONE[script].split(), prelude=HIDE_TORCH)
    assert done.returncode == 0, done.stderr
    assert "PyTorch is not installed" in done.stdout
    rows = [line for line in done.stdout.splitlines() if "| dot_product |" in line]
    assert rows and not any("PyTorch" in row for row in rows)
    if "--alone" in OURS_ALONE[script]:  # timed in a process of its own
        assert all(float(row.split("|")[3]) > 0 for row in rows)


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_peer_is_named(script):
    done = run(script, "--peers", "pytorch")
    assert done.returncode == 2
    assert "'pytorch' is not one of" in done.stderr


# === Whole networks ===

NETWORK_SCRIPTS = ["video_model.py", "train_step.py"]
TINY = "--quick --no-memory --models NL-I3D --dtypes float32 --peers channels_last"


@pytest.mark.backends
@pytest.mark.parametrize("script", NETWORK_SCRIPTS)
def test_networks_have_the_values_of_the_peer(script):
    done = run(script, *TINY.split())  # exit status 1 if values differ
    assert done.returncode == 0, done.stderr
    assert "--quick is a smoke test" in done.stdout
    rows = [line for line in done.stdout.splitlines() if "| NL-I3D | " in line]
    assert len(rows) == {"video_model.py": 5, "train_step.py": 3}[script]
    errors = [float(row.split("|")[-2]) for row in rows[:-1]]
    assert 0 < max(errors) < 1e-4


@pytest.mark.backends
def test_recomputed_networks_have_the_values_of_the_peer():
    done = run("train_step.py", *TINY.split(), "--recompute")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_modes_are_measured_beside_their_network():
    done = run("inference_modes.py", "--quick")
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if "x |" in line]
    assert [row[0] for row in rows] == [
        "| the folded network alone",
        "| `--mode eval`",
        "| `--mode predict`",
    ]
    assert [float(row[2].rstrip("x")) for row in rows][0] == 1


@pytest.mark.parametrize(
    ("options", "result"),
    [
        pytest.param([], (100, 100), marks=pytest.mark.slow),
        pytest.param(["--train"], (0.1, 100), marks=pytest.mark.hostile),
    ],
)
def test_detection_is_measured_alone_without_a_peer(options, result):
    quick = "--quick --networks maskrcnn --threads 1".split()
    done = run("detection.py", *quick, *options)
    assert done.returncode == 0, done.stderr
    [row] = [x.strip("| ") for x in done.stdout.splitlines() if "| maskrcnn" in x]
    _, library, found, seconds, share, cpu, cpu_share, above, whole = row.split(" | ")
    assert (library, share, cpu_share) == ("ours", "-", "-")
    assert result[0] <= float(found) <= result[1]  # objects, or a loss
    assert min(float(seconds), float(cpu)) > 0
    assert 0 < float(above) < float(whole.replace(",", ""))


@pytest.mark.slow
@pytest.mark.parametrize("script", NETWORK_SCRIPTS)
def test_networks_without_torch_are_ours_alone(script):
    done = run(script, "--quick", "--models", "C2D", prelude=HIDE_TORCH)
    assert done.returncode == 0, done.stderr
    assert "PyTorch is not installed" in done.stdout
    assert "torch" not in done.stdout.split("GFLOP/s")[1]


@pytest.mark.backends
@pytest.mark.parametrize("script", NETWORK_SCRIPTS)
def test_networks_run_on_jax(script):
    done = run(script, *TINY.split(), backend="jax")
    assert done.returncode == 0, done.stderr
    assert ", jax " in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--models NL-C3D", "'NL-C3D' is not one of C2D, I3D"),
        ("--batch 0", "'0' is not a positive whole number"),
        ("--peers pytorch", "'pytorch' is not one of eager"),
    ],
)
def test_mistakes_in_options_are_named(harness, monkeypatch, capsys, options, message):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setattr(sys, "argv", ["train_step.py", *options.split()])
    defaults = {"batch": 2, "frames": 8, "side": 112, "seconds": 1}
    with pytest.raises(SystemExit):
        harness("network_run").parse_arguments("training", "", defaults)
    assert message in capsys.readouterr().err


def test_clips_that_are_too_small_are_an_error(harness):
    case = harness("networks").Case("C2D", "float32", 14, 8, 1, 1, 64)
    with pytest.raises(SystemExit, match="^error: The clips are too small: pool2"):
        harness("network_run")._gflop("inference", case)


@pytest.mark.backends
@pytest.mark.parametrize("network", ["C2D_NLN_8x8_R50", "I3D_8x8_R50"])
def test_the_peer_has_the_values_of_pyslowfast(harness, network):
    import torch

    recorded = seeded.read("pyslowfast", network)
    name = {"C2D_NLN_8x8_R50": "NL-C2D", "I3D_8x8_R50": "I3D"}[network]
    case = harness("networks").Case(name, "float32", 50, 64, 1, 8, 224)
    peer = harness("network_peer").build(case, 400).eval()
    peer.load_state_dict(comparing.tensors(recorded.state))
    clip = np.moveaxis(seeded.clip("8x224x224"), -1, 1).copy()
    with torch.no_grad():
        logits = peer(torch.from_numpy(clip)).numpy()
    assert comparing.relative_error(logits, recorded.outputs["8x224x224"]) < 1e-5


def test_rows_relate_networks_to_products_and_to_the_fastest(harness, capsys):
    """10 GFLOP at 200 GFLOP/s are 50 ms: half of 100 ms."""
    module = harness("network_run")
    ours = [module.Row("plain", 200.0, 40, 0.0), module.Row("folded", 100.0, 30, 0.0)]
    theirs = [module.Row("eager", 300.0, 9, None), module.Row("compile", 150.0, 60, 0)]
    module.print_rows("inference", [*ours, *theirs], "C2D", least=10 / 200)
    plain, folded, eager, _, last = capsys.readouterr().out.splitlines()
    assert plain == "| C2D | ours, Keras layers | 200 | 2 | 40 | 25 | 0e+00 |"
    assert folded.split(" | ")[2:6] == ["100", "1", "30", "50"]
    assert eager.split(" | ")[3] == "3"
    assert "| **1.50** | x 2.00 |" in last


def test_only_our_disagreement_is_an_error(harness):
    module = harness("network_run")
    case = harness("networks").Case("C2D", "float32", 14, 8, 1, 8, 64)

    def found(ours, eager):
        rows = [module.Row("step", 1, None, ours), module.Row("eager", 1, None, eager)]
        return module._disagreeing("training", rows, case)

    assert found(1e-4, 1.0) == found(5e-3, 4e-3) == found(None, None) == []
    assert found(5e-3, 1e-3) == ["ours, C2D, float32: 5.0e-03"]
    assert found(float("nan"), 0.0) and found(5e-3, float("inf"))


@pytest.mark.backends
def test_peak_memory_of_a_network_has_its_weights(harness):
    case = harness("networks").Case("C2D", "float32", 14, 64, 1, 4, 64)
    peer = harness("network_peer").build(case, 400)
    mib = sum(p.numel() for p in peer.parameters()) * 4 / 2**20
    peak = harness("network_memory").peak("inference", "eager", case)
    if peak is None:
        pytest.skip("this system keeps no resettable peak of memory")
    assert mib < peak < mib + 30


# === The operation ===


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


def test_turns_alternate_and_end_in_time(harness):
    calls = []
    steps = {name: lambda name=name: calls.append(name) for name in "ab"}
    measure = harness("measure")
    assert set(measure.medians(steps, repeats=9, seconds=0)) == {"a", "b"}
    assert calls == list("aaaabbbb" * 3)  # one to refill the caches, three timed


def test_a_long_step_is_timed_once_in_a_turn(harness):
    measure, calls = harness("measure"), []

    def step(name):
        calls.append(name)
        time.sleep((measure.LONG + 1) / 1000)

    steps = {name: functools.partial(step, name) for name in "ab"}
    times = measure.medians(steps, repeats=2, seconds=60)
    assert calls == list("abab") and min(times.values()) > measure.LONG


@pytest.mark.backends
def test_peak_memory_is_that_of_the_maps(harness):
    """The published product: two maps of 16 MiB at a time, forward and backward."""
    shape = harness("operands").OpShape(2048, 2048, 16)
    peak = harness("op_memory").peaks("published", "dot_product", "float32", shape)
    if peak[0] is None:
        pytest.skip("this system keeps no resettable peak of memory")
    # Half a map of tolerance: the libraries' own buffers differ between machines.
    assert peak == pytest.approx([32, 32], abs=8)


def test_an_aborted_process_has_no_peak(harness, monkeypatch, tmp_path):
    aborting = tmp_path / "python"
    aborting.write_text("#!/bin/sh\nkill -9 $$\n")
    aborting.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(aborting))
    memory = harness("op_memory")
    assert memory.peaks("keras", "gaussian", "float32", (1, 1, 1)) is None
