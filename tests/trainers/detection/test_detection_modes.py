"""The modes of `trainers/detection.py`, on generated shapes."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.detection.runs import run
from trainers.core import checkpoint_files
from trainers.core.errors import UserError
from trainers.detection.shapes import make_image
from trainers.video_classification.data import write_video

SCRIPT = pathlib.Path(__file__).parents[3] / "trainers" / "detection.py"


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """A model directory after two steps and an evaluation."""
    folder = tmp_path_factory.mktemp("trained")
    run("train_and_eval", folder, config=config)
    return folder


def read(prefix):
    return dict(checkpoint_files.read(prefix))


def test_training_writes_checkpoints_curves_classes_and_pictures(trained):
    results = json.loads((trained / "eval_results.json").read_text())
    assert results["step"] == 2 and not results["broken"]
    assert {"box_AP", "mask_AP", "mask_APs"} <= results.keys()
    classes = (trained / "classes.txt").read_text().split()
    assert classes == ["background", "circle", "square", "triangle"]
    events = [x for x in (trained / "validation").iterdir()]
    tags = {
        value.tag
        for path in events
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert "box_AP" in tags and any(x.startswith("detections/0") for x in tags)


@pytest.mark.slow
def test_evaluation_repeats_the_metrics_and_writes_results(trained, config):
    before = json.loads((trained / "eval_results.json").read_text())
    run("eval", trained, checkpoint="last")
    after = json.loads((trained / "eval_results.json").read_text())
    for name in ("box_AP", "mask_AP"):
        assert after[name] == before[name]
    assert json.loads((trained / "results_segm.json").read_text())


@pytest.mark.slow
def test_a_resumed_training_is_bit_identical(config, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run("train", whole, config=config)
    for steps in (1, 2):
        run("train", parts, f"trainer.train_steps={steps}", config=config)
    expected, found = (read(str(x / "ckpt-2")) for x in (whole, parts))
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[key], found[key]) for key in expected)


def test_the_script_runs_from_another_folder(config, tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--config", config, "--mode", "evla"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "error: --mode is 'evla'. Did you mean 'eval'?\n"


# === Export ===


@pytest.fixture(scope="module")
def exported(trained):
    run("export", trained)
    return trained / "export" / "1"


SERVE = """
import sys
sys.modules["keras"] = sys.modules["tf_keras"] = None  # cannot be imported
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
images = np.load(sys.argv[2])
encoded = tf.stack([tf.io.encode_jpeg(image, quality=100) for image in images])
found = {"images": loaded.signatures["serving_default"](images=tf.constant(images))}
found["jpeg"] = loaded.signatures["jpeg"](jpeg=encoded)
values = {f"{x}/{name}": y.numpy() for x in found for name, y in found[x].items()}
np.savez(sys.argv[3], **values)
"""


@pytest.mark.slow
def test_an_export_detects_without_keras(exported, trained, tmp_path):
    images = np.stack([make_image(i)[0] for i in range(3)])[:, :96]
    np.save(tmp_path / "images.npy", images)
    paths = exported, tmp_path / "images.npy", tmp_path / "found.npz"
    command = [sys.executable, "-c", SERVE, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    values = np.load(tmp_path / "found.npz")
    model = restored(trained)
    for i, found in enumerate(model.detect(list(images), batch_size=3)):
        count = values["images/num_detections"][i]
        assert count == len(found["boxes"]) > 0
        boxes = values["images/detection_boxes"][i, :count]
        np.testing.assert_allclose(boxes, found["boxes"], atol=0.01)
        classes = values["images/detection_classes"][i, :count]
        np.testing.assert_array_equal(classes, found["labels"])
    shape = values["jpeg/detection_masks"].shape
    assert shape == values["images/detection_masks"].shape == (3, 100, 28, 28)


def restored(folder):
    from trainers.core import config, modes
    from trainers.detection.modes import Options, build_task

    name, experiment = config.load_experiment([str(folder / "params.yaml")])
    options = Options(str(folder))
    return modes.restore_trained(options, experiment, build_task)[1]


@pytest.mark.slow
def test_an_export_has_its_metadata(exported):
    assets = exported / "assets"
    assert (assets / "classes.txt").read_text().startswith("background\ncircle\n")
    about = json.loads((assets / "preprocessing.json").read_text())
    assert (about["color"], about["min_size"], about["max_size"]) == ("RGB", 64, 96)
    report = json.loads((exported / "assets.extra" / "export.json").read_text())
    assert report["differences"]["pixels"] <= 0.05


@pytest.mark.slow
def test_requests_above_a_limit_are_refused(exported):
    loaded = tf.saved_model.load(str(exported))
    empty = tf.zeros((0, 8, 8, 3), tf.uint8)
    refused = tf.errors.InvalidArgumentError
    with pytest.raises(refused, match="no images: send at least one"):
        loaded.signatures["serving_default"](images=empty)
    with pytest.raises(refused, match="not a JPEG"):
        loaded.signatures["jpeg"](jpeg=tf.constant([b"\x89PNG"]))


# === Predict ===


def test_images_and_videos_are_predicted(trained, tmp_path, capsys, shapes):
    write_video(str(tmp_path / "clip.mp4"), [make_image(i)[0] for i in range(2)])
    (tmp_path / "broken.jpg").write_text("no image")
    image = shapes / "val" / "images" / "00000.jpg"
    paths = [str(image), str(tmp_path / "clip.mp4"), str(tmp_path / "broken.jpg")]
    drawn = tmp_path / "drawn"
    options = {"as_json": True, "min_score": 0.3, "output_dir": str(drawn)}
    assert run("predict", trained, paths=tuple(paths), **options) == 1
    output = capsys.readouterr()
    results = json.loads(output.out)
    assert [(x["path"], x.get("frame")) for x in results] == [
        (paths[0], None),
        (paths[1], 0),
        (paths[1], 1),
        (paths[2], None),
    ]
    assert "cannot be decoded" in results[3]["error"]
    assert f"error: {paths[2]}: cannot be decoded" in output.err
    for found in results[0]["detections"]:
        assert found["score"] >= 0.3 and found["mask"]["size"] == [128, 128]
        assert found["class"] in ("circle", "square", "triangle")
    written = sorted(str(x.relative_to(drawn)) for x in drawn.rglob("*.jpg"))
    assert written == ["00000.jpg", "clip/00000.jpg", "clip/00001.jpg"]


def test_an_untrained_folder_is_an_error(config, tmp_path):
    with pytest.raises(UserError, match="nothing has been trained there"):
        run("predict", tmp_path, paths=("x.jpg",))
