"""Exports for OpenVINO, ONNX Runtime and LiteRT compute what the Keras model does."""

import dataclasses
import json
import os
import pathlib
import re

import keras
import numpy as np
import pytest

from keras_nonlocal.ops.pairwise import MODES
from tests.trainers.runs import run
from tests.trainers.test_export import CROP, NUM_FRAMES, make_model, make_task, noise
from trainers.core.errors import UserError
from trainers.core.export import ExportError
from trainers.video_classification import runtime_export, runtimes
from trainers.video_classification.scoring import inference_form

FORMS = [
    ("gaussian", "dense"),
    ("gaussian", "chunked"),
    ("embedded_gaussian", "dense"),
    ("embedded_gaussian", "chunked"),
    ("dot_product", "dense"),
    ("dot_product", "linear"),
    ("concatenation", "dense"),
    ("concatenation", "sorted"),
    *((mode, "auto") for mode in MODES),
    (None, "auto"),  # no blocks
]
CLIP = (NUM_FRAMES, CROP, CROP, 3)
LARGER = (2 * NUM_FRAMES, CROP + 16, CROP + 48, 3)
ANY = (None, None, None, 3)


def make_network(mode, algorithm, **options):
    keras.utils.set_random_seed(0)
    if mode is not None:
        options["non_local"] = {"res3": [0]}
        options["non_local_options"] = {"mode": mode, "algorithm": algorithm}
    return inference_form(make_model(**options), "float32")


def normal(*shape):
    return np.random.default_rng(2).normal(size=shape).astype("float32")


def assert_same(network, call, clips):
    expected = np.asarray(network(clips, training=False))
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(call(clips), expected, rtol=1e-4, atol=1e-4)


# === Without the runtimes ===


def test_a_runtime_that_is_not_installed_is_named():
    missing = dataclasses.replace(runtimes.RUNTIMES["onnx"], modules=("no_module",))
    with pytest.raises(UserError, match=r"ONNX Runtime needs no_module.*'\.\[onnx\]'"):
        missing.check_installed()


@pytest.mark.parametrize("name", ["onnx", "litert"])
def test_a_precision_that_a_runtime_does_not_have_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="--precision is 'int8'.*float32"):
        runtime_export.export_network(make_task(), None, tmp_path, name, "int8")
    assert os.listdir(tmp_path) == []


# === With them ===


@pytest.mark.runtimes
@pytest.mark.parametrize("runtime", runtimes.RUNTIMES)
@pytest.mark.parametrize(("mode", "algorithm"), FORMS)
def test_every_form_runs(mode, algorithm, runtime, tmp_path):
    network, about = make_network(mode, algorithm), runtimes.RUNTIMES[runtime]
    network(np.zeros((1, *CLIP), "float32"))
    path = runtimes.write(runtime, network, str(tmp_path), CLIP)
    call = about.load(path, "float32")
    for batch in (1, 3) if about.batch is None else (1,):
        assert_same(network, call, normal(batch, *CLIP))


@pytest.mark.runtimes
@pytest.mark.parametrize("runtime", runtimes.RUNTIMES)
@pytest.mark.parametrize(("mode", "algorithm"), FORMS)
def test_every_form_runs_on_clips_of_any_size(mode, algorithm, runtime, tmp_path):
    network = make_network(mode, algorithm)
    network(np.zeros((1, *CLIP), "float32"))
    path = runtimes.write(runtime, network, str(tmp_path), ANY)
    call = runtimes.RUNTIMES[runtime].load(path, "float32")
    for shape in ((3, *CLIP), (1, *LARGER), (1, *CLIP)):
        assert_same(network, call, normal(*shape))


@pytest.mark.runtimes
@pytest.mark.parametrize(
    ("mode", "algorithm", "shape", "replaced"),
    [
        ("gaussian", "auto", CLIP, False),  # dense is the fastest at this size
        ("gaussian", "auto", ANY, True),
        ("embedded_gaussian", "chunked", CLIP, True),
        ("dot_product", "auto", ANY, False),
    ],
)
def test_a_form_that_is_slow_in_openvino_is_replaced(
    mode, algorithm, shape, replaced, tmp_path, capsys
):
    network = make_network(mode, algorithm)
    network(np.zeros((1, *CLIP), "float32"))
    runtimes.write("openvino", network, str(tmp_path), shape)
    message = "res3_0_nonlocal: exported with the map of all pairs"
    assert (message in capsys.readouterr().err) == replaced


@pytest.mark.runtimes
@pytest.mark.parametrize(
    ("runtime", "precision"),
    [*((x, "float32") for x in runtimes.RUNTIMES), ("openvino", "bfloat16")],
)
def test_the_recipe_beside_a_network_gives_its_logits(
    runtime, precision, tmp_path, monkeypatch
):
    model = make_model(non_local={"res3": [0]})
    version = runtime_export.export_network(
        make_task(), model, tmp_path, runtime, precision
    )
    text = pathlib.Path(version, "PREPROCESSING.md").read_text()
    monkeypatch.chdir(version)
    names = {"frames": noise(NUM_FRAMES, CROP, CROP)}
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.S):
        exec(code, names)
    expected = np.asarray(model(names["clips"], training=False))
    tolerance = 1e-4 if precision == "float32" else 2e-2
    np.testing.assert_allclose(names["logits"], expected, atol=tolerance)
    about = json.loads(pathlib.Path("preprocessing.json").read_text())
    assert about["input"]["shape"][1:] == list(CLIP)
    report = json.loads(pathlib.Path("export.json").read_text())
    assert report["precision"] == precision and report["difference"] <= 5e-2
    assert os.listdir(tmp_path) == ["1"]


@pytest.mark.runtimes
@pytest.mark.parametrize("runtime", runtimes.RUNTIMES)
def test_a_dynamic_export_takes_clips_of_every_size(runtime, tmp_path, monkeypatch):
    model, task = make_model(non_local={"res3": [0]}), make_task()
    task.task_config.export.dynamic = True
    version = runtime_export.export_network(task, model, tmp_path, runtime)
    monkeypatch.chdir(version)
    about = json.loads(pathlib.Path("preprocessing.json").read_text())
    assert about["input"]["shape"] == [None, *ANY]
    text = pathlib.Path("PREPROCESSING.md").read_text()
    for frames, height, width, _ in (LARGER, CLIP):
        names = {"frames": noise(frames, height, width)}
        for code in re.findall(r"```python\n(.*?)```", text, flags=re.S):
            exec(code, names)
        assert_same(model, lambda clips, names=names: names["logits"], names["clips"])


@pytest.mark.runtimes
def test_weights_that_are_not_finite_are_not_exported(tmp_path):
    model = make_model()
    kernel, bias = model.get_layer("pred").get_weights()
    model.get_layer("pred").set_weights([kernel, bias * np.nan])
    for runtime in runtimes.RUNTIMES:
        with pytest.raises(ExportError, match="disagrees with the Keras model"):
            runtime_export.export_network(make_task(), model, tmp_path, runtime)
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "trained"
    run("train", folder, "trainer.train_steps=10", config=config)
    return folder


@pytest.mark.runtimes
def test_int8_is_calibrated_and_measured(trained, capsys):
    run("export", trained, format="openvino", precision="int8")
    folder = trained / "export_openvino" / "1"
    report = json.loads((folder / "export.json").read_text())
    assert report["validation_clips"] == report["calibration_clips"] == 6
    accuracy = report["accuracy"]
    assert accuracy["float32"] - accuracy["int8"] <= 0.01
    assert b"i8" in (folder / "network.xml").read_bytes()
    errors = capsys.readouterr().err
    assert f"{accuracy['float32']:.4f} in float32" in errors
    about = json.loads((folder / "metadata.json").read_text())
    assert about["step"] == 10 and about["config"]["task"]["model"]["name"] == "i3d"


@pytest.mark.runtimes
def test_int8_that_loses_too_much_is_refused(trained, tmp_path):
    override = "task.export.max_accuracy_drop=-1.01"  # no network is that much better
    with pytest.raises(ExportError, match="In int8 the accuracy on 6 validation"):
        run(
            "export",
            trained,
            override,
            format="openvino",
            precision="int8",
            export_dir=str(tmp_path),
        )
    assert os.listdir(tmp_path) == []


@pytest.mark.runtimes
def test_the_command_writes_every_format(trained):
    for name, about in runtimes.RUNTIMES.items():
        run("export", trained, format=name)
        folder = trained / f"export_{name}"
        assert (folder / max(os.listdir(folder)) / about.file).is_file()
