"""From a folder of clips to an exported network, with errors on the way."""

import json

import numpy as np
import pytest
import tensorflow as tf

from trainers.video_classification.data import write_video

# One command in a process is in the default tier: tests/trainers/test_task_modes.py.
pytestmark = pytest.mark.slow

CLASSES = ("açaí", "zap")


def write_noise(path, seed, num_frames=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    write_video(str(path), random.integers(0, 256, (num_frames, 40, 48, 3), np.uint8))


@pytest.fixture(scope="module")
def trained(command, config):
    """A folder with a trained model; two of its training files are broken."""
    for seed, name in enumerate(CLASSES):
        for split, count in (("train", 3), ("val", 2)):
            for i in range(count):
                path = command.folder / "data" / split / name / f"{i}.mp4"
                write_noise(path, seed=10 * seed + i)
    (command.folder / "data/train/zap/text.mp4").write_text("I am a text")
    (command.folder / "data/val/zap/empty.mp4").touch()
    command("train_and_eval", "--config", config).succeeds()
    command.training_log = command.err
    return command


@pytest.fixture(scope="module")
def results(trained):
    """Results of the test at the end of the training."""
    return json.loads((trained.folder / "model/eval_results.json").read_text())


def test_broken_files_are_left_out_by_name_and_the_others_are_tested(trained, results):
    for path in ("data/train/zap/text.mp4", "data/val/zap/empty.mp4"):
        assert f"{path}: " in trained.training_log
    assert (results["num_videos"], results["num_views"]) == (4, 4 * 9)
    (broken,) = results["broken"]
    assert broken.endswith("zap/empty.mp4")


def test_a_separate_eval_command_gives_the_same_results(trained, results):
    trained("eval", "--checkpoint", "last").succeeds()
    again = json.loads((trained.folder / "model/eval_results.json").read_text())
    assert again["broken"] == results["broken"]
    loss = results["validation_loss"]
    assert again["validation_loss"] == pytest.approx(loss, rel=1e-4)


@pytest.fixture(scope="module")
def predicted(trained):
    """One command on files of all kinds: path -> what it printed for it."""
    # A film of one colour looks the same in every view and to every scaler.
    grey = np.full((16, 36, 36, 3), 200, np.uint8)
    write_video(str(trained.folder / "grey.mp4"), grey)
    paths = ["data/train/zap/text.mp4", "gone.mp4", "data/val/açaí", "grey.mp4"]
    trained("predict", *paths, "--json", "--top_k", 9)
    assert trained.code == 1  # of four paths, two failed
    for path in paths[:2]:
        assert f"error: {path}: " in trained.err
    return {result["path"]: result for result in json.loads(trained.out)}


def test_predict_names_failed_files_and_continues(predicted):
    broken = ["data/train/zap/text.mp4", "gone.mp4"]
    good = ["data/val/açaí/0.mp4", "data/val/açaí/1.mp4", "grey.mp4"]
    assert list(predicted) == [*broken, *good]
    assert all(predicted[path]["error"] for path in broken)
    for path in good:
        predictions = predicted[path]["predictions"]
        assert {row["class"] for row in predictions} == set(CLASSES)
        assert sum(row["score"] for row in predictions) == pytest.approx(1)


def test_the_exported_network_predicts_as_the_trained_one(trained, predicted):
    trained("export", "--export_dir", "served").succeeds()
    folder = trained.folder / "served" / "1"
    names = (folder / "assets/classes.txt").read_text(encoding="utf-8")
    assert tuple(names.splitlines()) == CLASSES
    loaded = tf.saved_model.load(str(folder))
    clip = np.full((1, 4, 36, 36, 3), 200, np.uint8)
    rows = {row["class"]: row for row in predicted["grey.mp4"]["predictions"]}
    outputs = loaded.signatures["serving_default"](clips=tf.constant(clip))
    np.testing.assert_allclose(
        outputs["probabilities"][0],
        [rows[name]["score"] for name in CLASSES],
        atol=1e-3,
    )


def test_a_run_in_which_every_video_is_broken_ends(trained, config):
    for name in ("a", "b"):
        (trained.folder / "broken" / name).mkdir(parents=True)
        (trained.folder / "broken" / name / f"{name}.mp4").write_text("text")
    where = "--params_override=task.train_data.input_path=broken"
    trained("train", "--config", config, where, model_dir="broken_model")
    trained.fails("could not be decoded", "broken/a/a.mp4: ", "broken/b/b.mp4: ")


def override(trained, config, mode, *settings):
    overrides = [f"--params_override={setting}" for setting in settings]
    return trained(mode, "--config", config, *overrides, model_dir="other_model")


# Messages are tested where they are raised; here, that they reach the user.
def test_a_label_out_of_range_is_named_by_line(trained, config):
    index = "data/val/zap/0.mp4 0\ndata/val/zap/1.mp4 7\n"
    (trained.folder / "list.txt").write_text(index)
    (trained.folder / "classes.txt").write_text("\n".join(CLASSES))
    override(
        trained,
        config,
        "train",
        "task.train_data.input_path=list.txt",
        "task.train_data.class_file=classes.txt",
    ).fails("list.txt:2: label 7 is out of range", "2 classes")


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        (["task.train_data.input_path=gone"], ["gone: no such file or folder"]),
        (["task.model.non_locale=5"], ["non_locale", "Did you mean 'non_local'?"]),
        (["task.init_checkpoint=gone"], ["No checkpoint at gone"]),
        (
            ["task.init_checkpoint=model", "task.model.width=8"],
            ["task.init_checkpoint: model", "conv1/kernel", "Set task.model.width=4."],
        ),
    ],
)
def test_mistakes_are_one_error_and_exit_code_1(trained, config, settings, messages):
    override(trained, config, "train", *settings).fails(*messages)


def test_an_empty_class_is_named(trained, config):
    write_noise(trained.folder / "lopsided/full/0.mp4", seed=0)
    (trained.folder / "lopsided/hollow").mkdir()
    setting = "task.train_data.input_path=lopsided"
    override(trained, config, "train", setting).fails("class 'hollow' has no videos")
