"""The detection demo: its images, its table and, slow, all of its steps."""

import json
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
import yaml

from keras_nonlocal import MaskRCNN
from trainers.core.config import load_experiment
from trainers.detection import experiments, shapes  # noqa: F401 (registers)

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module", autouse=True)
def _import_from_examples():
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


@pytest.fixture
def demo_detection():
    import demo_detection

    return demo_detection


def test_images_are_written_with_their_annotations(tmp_path, capsys):
    import demo_images

    demo_images.main([str(tmp_path), "--train", "3", "--val", "2"])
    counts = {
        str(path.relative_to(tmp_path)): len(json.loads(path.read_text())["images"])
        for path in tmp_path.rglob("*.json")
    }
    assert counts == {
        "shapes/train/instances.json": 3,
        "shapes/train/keypoints.json": 3,
        "shapes/val/instances.json": 2,
        "shapes/val/keypoints.json": 2,
        "keys/train/instances.json": 3,
        "keys/val/instances.json": 2,
    }
    assert len(list(tmp_path.rglob("*.jpg"))) == 10
    first = (tmp_path / "shapes/train/images/00000.jpg").read_bytes()
    assert (tmp_path / "shapes/val/images/00000.jpg").read_bytes() != first


def test_the_table_has_a_row_for_each_training(demo_detection, tmp_path):
    runs = []
    for network, seed, found in (
        ("nl_keys", 1, {"box_AP": 0.75, "box_AP50": 1.0, "mask_AP": 0.5}),
        ("keypoint_rcnn", 0, {"box_AP": 0.5, "box_AP50": 1, "keypoint_AP": 0.25}),
        ("nl_keys", 0, {"box_AP": None, "step": 3}),
    ):
        runs.append(demo_detection.Run(network, seed, tmp_path))
        runs[-1].folder.mkdir(parents=True)
        (runs[-1].folder / "eval_results.json").write_text(json.dumps(found))
    assert demo_detection.table(runs).splitlines() == [
        "| network       | seed | box_AP | box_AP50 | mask_AP | keypoint_AP |",
        "| ------------- | ---- | ------ | -------- | ------- | ----------- |",
        "| keypoint_rcnn | 0    | 50.0   | 100.0    |         | 25.0        |",
        "| nl_keys       | 1    | 75.0   | 100.0    | 50.0    |             |",
        "| nl_keys       | 0    |        |          |         |             |",
    ]


def test_every_network_of_the_demo_has_a_config(demo_detection):
    configs = {path.stem for path in demo_detection.CONFIGS.glob("*.yaml")}
    assert configs == set(demo_detection.NETWORKS)
    for path in demo_detection.CONFIGS.glob("*.yaml"):
        name, experiment = load_experiment([str(path)])
        experiment.task.check()
        assert name == "detection" and "Expected: " in path.read_text()
        assert f"--model_dir demo_detection/seed0/{path.stem}\n" in path.read_text()


def gradient_of_classes(options, squares, image):
    """How much the classes of squares depend on each pixel: (H, W)."""
    model = MaskRCNN(num_classes=3, **options | {"width": 4})
    for variable in model.weights:  # a new block is an identity
        if "nonlocal" in variable.path and variable.path.endswith("gamma"):
            variable.assign(tf.ones(variable.shape))
    boxes = tf.constant([[square.box for square in squares]], tf.float32)
    inputs = tf.constant(image[None], tf.float32) / 255
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        logits, _ = model.predict_boxes(model.extract_features(inputs), boxes)
        of_class = logits[..., 1]
    return np.abs(tape.gradient(of_class, inputs)[0]).max(-1)


@pytest.mark.parametrize("network", ["keys", "wide_keys", "nl_keys"])
def test_a_square_depends_on_the_disc_only_with_a_block(demo_detection, network):
    """Whatever the weights: the disc is outside of the receptive field."""
    config = yaml.safe_load((demo_detection.CONFIGS / f"{network}.yaml").read_text())
    options = config["task"]["model"]
    del options["name"]
    image, squares = shapes.make_image(0, "keys")
    gradient = gradient_of_classes(options, squares, image)
    color = np.array(shapes.KEYS[squares[0].name])
    is_disc = np.abs(image.astype(int) - color).max(-1) <= 2
    assert is_disc.sum() > 1000
    for square in squares:
        x1, y1, x2, y2 = square.box.astype(int)
        assert gradient[y1:y2, x1:x2].max() > 0
    assert (gradient[is_disc].max() > 0) == (network == "nl_keys")


@pytest.mark.slow
def test_demo_runs_to_the_end_and_then_reuses_it(demo_detection, tmp_path, capfd):
    """The real commands, on few images and few steps."""
    for config in demo_detection.CONFIGS.glob("nl_mask_rcnn.yaml"):
        text = config.read_text().replace("train_steps: 300", "train_steps: 4")
        text = text.replace("validation_interval: 300", "validation_interval: 4")
        (tmp_path / config.name).write_text(text)
    counts = ["--train", "24", "--val", "4"]
    arguments = (tmp_path / "demo", ["nl_mask_rcnn"], 1, tmp_path, counts)
    demo_detection.demo(*arguments)
    assert (tmp_path / "demo/export/1/saved_model.pb").exists()
    pictures = tmp_path / "demo/pictures/nl_mask_rcnn"
    assert len(list(pictures.iterdir())) >= 4
    output = capfd.readouterr().out
    assert "| nl_mask_rcnn | 0 " in output and "val/images/00001.jpg" in output
    demo_detection.demo(*arguments)
    assert capfd.readouterr().out.count("Finished before") == 4
