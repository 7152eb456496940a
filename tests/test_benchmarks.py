"""The benchmarks run, and the compared forms compute the same values."""

import argparse
import importlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.parity import comparing, seeded

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"
SCRIPTS = ["non_local_op.py", "non_local_block.py"]
QUICK = {
    "non_local_op.py": "--quick --only time --modes embedded_gaussian,concatenation "
    "--peers published,broadcast,sdpa,keras",
    "non_local_block.py": "--quick --modes embedded_gaussian,concatenation "
    "--peers PySlowFast,AlexHex7 --dtypes float32",
}
FORMS = {
    "non_local_op.py": ["ours", "published", "broadcast", "SDPA", "keras.ops"],
    "non_local_block.py": ["PySlowFast", "AlexHex7"],
}
OURS_ALONE = {
    "non_local_op.py": "--quick --only time --modes dot_product --dtype bfloat16",
    "non_local_block.py": "--quick --modes dot_product --peers mmcv --dtypes float32",
    "video_model.py": "--quick --only time --models C2D --dtypes float32 "
    "--forms folded",
    "train_step.py": "--quick --only time --models C2D --dtypes float32",
}


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name):
        return importlib.import_module(f"harness.{name}")

    return load


@pytest.fixture
def no_torch(tmp_path):
    """Options: the peers' interpreter is one without PyTorch."""
    python = tmp_path / "python"
    error = "ModuleNotFoundError: No module named 'torch'"
    python.write_text(f'#!/bin/sh\necho "{error}" >&2\nexit 1\n')
    python.chmod(0o755)
    return "--peer-python", str(python)


def run(script, *options, backend="tensorflow"):
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *options],
        # Threads that wait by spinning crawl where other tests want the cores, too.
        env={**os.environ, "KERAS_BACKEND": backend, "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
    )


def rows(done, beginning):
    """Cells of the rows that begin with this one."""
    assert done.returncode == 0, done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    return [cells for cells in lines if cells[0] == beginning]


@pytest.mark.backends
@pytest.mark.parametrize("script", SCRIPTS)
def test_peers_have_our_values(script):
    done = run(script, *QUICK[script].split())  # exit status 1 if values differ
    assert done.returncode == 0, done.stderr
    assert not [form for form in FORMS[script] if form not in done.stdout]


@pytest.mark.parametrize(
    "script",
    ["non_local_block.py"]
    + [pytest.param(x, marks=pytest.mark.slow) for x in OURS_ALONE if "block" not in x],
)
def test_without_torch_our_times_remain(script, no_torch):
    done = run(script, *OURS_ALONE[script].split(), *no_torch)
    assert done.returncode == 0, done.stderr
    assert "is left out: ModuleNotFoundError: No module named 'torch'" in done.stderr
    assert "--quick is a smoke test" in done.stdout
    table = done.stdout[done.stdout.index("| --- |") :]
    assert "| ours" in table or "| inference |" in table
    assert "orch" not in table


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_peer_is_named(script):
    done = run(script, "--peers", "pytorch")
    assert done.returncode == 2
    assert "'pytorch' is not one of" in done.stderr


def test_an_unknown_interpreter_is_named():
    done = run("non_local_op.py", "--peer-python", "/no/python")
    assert done.returncode == 2
    assert "'/no/python': no such program" in done.stderr


# === Whole networks ===

NETWORK_SCRIPTS = ["video_model.py", "train_step.py"]
COMMON = "--quick --only time --models NL-I3D --dtypes float32 --peers channels_last"
TINY = {"video_model.py": f"{COMMON} --forms folded", "train_step.py": COMMON}


@pytest.mark.backends
@pytest.mark.parametrize("script", NETWORK_SCRIPTS)
def test_networks_have_the_values_of_the_peer(script):
    done = run(script, *TINY[script].split())  # exit status 1 if values differ
    assert done.returncode == 0, done.stderr
    assert "--quick is a smoke test" in done.stdout
    table = rows(done, "NL-I3D")
    assert len(table) == 3
    errors = [float(cells[-1]) for cells in table[:-1]]
    assert 0 < max(errors) < 1e-4


@pytest.mark.backends
def test_recomputed_networks_have_the_values_of_the_peer():
    done = run("train_step.py", *TINY["train_step.py"].split(), "--recompute")
    assert done.returncode == 0, done.stderr


def test_the_start_of_a_command_is_measured():
    [cells] = rows(
        run("starting.py", "--quick"), "`python trainers/video.py --mode trian`"
    )
    assert all(0 < float(cell) < 60 for cell in cells[1:])


@pytest.mark.slow
def test_modes_are_measured_beside_their_network():
    done = run("inference_modes.py", "--quick")
    for subject in ("the folded network alone", "`--mode eval`", "`--mode predict`"):
        [cells] = rows(done, subject)
        assert float(cells[1].split()[0].replace(",", "")) > 0
    assert rows(done, "the folded network alone")[0][2] == "1.00x"


@pytest.mark.runtimes
def test_runtimes_are_measured_beside_ours():
    done = run("runtimes.py", "--quick")
    forms = ("ours, batch norm folded", "ours, folded, weights as constants")
    names = (*forms, "OpenVINO", "ONNX Runtime", "LiteRT")
    found = [row for name in names for row in rows(done, name)]
    assert len(found) == 9
    for _, _, *numbers in found:
        *times, error = (float(x.rstrip("x").replace(",", "")) for x in numbers)
        assert min(times) > 0 and error < 0.1


@pytest.mark.slow
def test_a_step_takes_longer_than_its_graph_alone():
    done = run("step_overhead.py", "--quick")
    graph, trainer = (
        float(rows(done, name)[0][1].replace(",", ""))
        for name in ("its graph alone", "the trainer")
    )
    assert 1 < graph < trainer  # ms


@pytest.mark.parametrize(
    ("options", "result"),
    [
        pytest.param([], (100, 100), marks=pytest.mark.slow),
        pytest.param(["--train"], (0.1, 100), marks=pytest.mark.hostile),
    ],
)
def test_detection_is_measured_alone_without_a_peer(options, result, no_torch):
    quick = "--quick --networks maskrcnn --threads 1".split()
    [cells] = rows(run("detection.py", *quick, *options, *no_torch), "maskrcnn")
    _, library, found, time, share, cpu, cpu_share, above, whole = cells
    assert (library, share, cpu_share) == ("ours", "-", "-")
    assert result[0] <= float(found) <= result[1]  # objects, or a loss
    assert min(float(x.replace(",", "")) for x in (time, cpu)) > 0
    assert 0 < float(above) < float(whole.replace(",", ""))


@pytest.mark.backends
@pytest.mark.parametrize("script", NETWORK_SCRIPTS)
def test_networks_run_on_jax(script):
    done = run(script, *TINY[script].split(), backend="jax")
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
    defaults = {"batch": 2, "frames": 8, "side": 112}
    with pytest.raises(SystemExit):
        harness("network_run").parse_arguments("training", "", defaults)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_clips_that_are_too_small_are_an_error(harness):
    case = harness("networks").Case("C2D", "float32", 14, 8, 1, 1, 64)
    with pytest.raises(SystemExit, match="^error: .*The clips are too small: pool2"):
        harness("network_run").count_gflop("inference", case)


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
    module, figure = harness("network_run"), harness("clock").Figure

    def row(key, ms, mib, error=0.0):
        return module.Row(key, figure(ms, ms, ms), figure(mib, mib, mib), error)

    ours = [row("plain", 200, 40), row("folded", 100, 30)]
    theirs = [row("eager", 300, 9, None), row("compile", 150, 60)]
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


def peaks(harness, subject):
    """Its figures of memory."""
    chosen = {"only": "memory", "quick": True, "any_load": True}
    clock = harness("clock").Clock(argparse.Namespace(**chosen))
    figures = clock.measure({"it": subject})["it"].figures
    if not figures:
        pytest.skip("this system keeps no resettable peak of memory")
    return {name: figure.median for name, figure in figures.items()}


@pytest.mark.backends
def test_peak_memory_of_a_network_has_its_weights(harness):
    case = harness("networks").Case("C2D", "float32", 14, 64, 1, 4, 64)
    peer = harness("network_peer").build(case, 400)
    mib = sum(p.numel() for p in peer.parameters()) * 4 / 2**20
    made = "harness.network_torch:make", ("inference", "eager", case)
    peak = peaks(harness, harness("workers").Subject("eager", *made))["inference MiB"]
    assert mib < peak < mib + 30


# === The operation ===


def test_an_unknown_shape_is_named(harness):
    operands = harness("operation")
    assert operands.parse_shape("12x3x4") == (12, 3, 4)
    for text in ("res6", "12x3", "12x0x4", "axbxc"):
        with pytest.raises(ValueError, match=f"Unknown shape '{text}'.*res3.*NxMxd"):
            operands.parse_shape(text)


def test_wrong_values_are_seen(harness):
    found = [np.ones(4), np.array([3.0, 4.5])]
    expected = [np.ones(4), np.array([3.0, 4.0])]
    assert harness("operation").relative_error(found, expected) == pytest.approx(0.1)


@pytest.mark.backends
def test_peak_memory_is_that_of_the_maps(harness):
    """The published product: two maps of 16 MiB at a time, forward and backward."""
    arguments = "published", "dot_product", "float32", (2048, 2048, 16)
    subject = harness("workers").Subject("it", "harness.operation:make", arguments)
    found = peaks(harness, subject)
    # Half a map of tolerance: the libraries' own buffers differ between machines.
    assert found["forward MiB"] == pytest.approx(32, abs=8)
    assert found["forward + backward MiB"] == pytest.approx(32, abs=8)
