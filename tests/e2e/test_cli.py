"""From a folder of clips to an exported network, and what stops on the way."""

import json

import numpy as np
import pytest
import tensorflow as tf

from trainers.video_classification.data import write_video

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
    return command


def test_broken_files_are_left_out_by_name_and_the_others_are_tested(trained):
    trained("eval").succeeds()
    assert "data/val/zap/empty.mp4: " in trained.err
    results = json.loads((trained.folder / "model/eval_results.json").read_text())
    assert (results["num_videos"], results["num_views"]) == (4, 4 * 9)
    (broken,) = results["broken"]
    assert broken.endswith("zap/empty.mp4")


def test_predict_names_what_failed_and_goes_on(trained):
    paths = ["data/train/zap/text.mp4", "gone.mp4", "data/val/açaí"]
    trained("predict", *paths, "--json", "--top_k", 9)
    assert trained.code == 1
    text, gone, *good = json.loads(trained.out)
    assert text["path"] == paths[0] and text["error"]
    assert gone["path"] == paths[1] and gone["error"]
    assert [f"error: {path}: " in trained.err for path in paths[:2]] == [True, True]
    assert [result["path"] for result in good] == [
        f"{paths[2]}/{i}.mp4" for i in (0, 1)
    ]
    for result in good:
        assert {row["class"] for row in result["predictions"]} == set(CLASSES)
        assert sum(row["score"] for row in result["predictions"]) == pytest.approx(1)


def test_the_exported_network_predicts_as_the_trained_one(trained):
    trained("export", "--export_dir", "served").succeeds()
    folder = trained.folder / "served" / "1"
    names = (folder / "assets/classes.txt").read_text(encoding="utf-8")
    assert tuple(names.splitlines()) == CLASSES
    loaded = tf.saved_model.load(str(folder))
    # A film of one colour looks the same in every view and to every scaler.
    clip = np.full((1, 4, 36, 36, 3), 200, np.uint8)
    write_video(str(trained.folder / "grey.mp4"), np.repeat(clip[0], 4, axis=0))
    trained("predict", "grey.mp4", "--json").succeeds()
    rows = {row["class"]: row for row in json.loads(trained.out)[0]["predictions"]}
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        (["task.train_data.input_path=gone"], ["gone: no such file or folder"]),
        (["task.model.non_locale=5"], ["non_locale", "Did you mean 'non_local'?"]),
        (["task.init_checkpoint=gone"], ["No checkpoint at gone"]),
        (
            ["task.init_checkpoint=model", "task.model.width=8"],
            ["task.init_checkpoint: model", "conv1/kernel", "see task.model.width"],
        ),
    ],
)
def test_mistakes_are_one_error_and_exit_code_1(trained, config, settings, messages):
    override(trained, config, "train", *settings).fails(*messages)


@pytest.mark.slow
def test_an_empty_class_is_named(trained, config):
    write_noise(trained.folder / "lopsided/full/0.mp4", seed=0)
    (trained.folder / "lopsided/hollow").mkdir()
    setting = "task.train_data.input_path=lopsided"
    override(trained, config, "train", setting).fails("class 'hollow' has no videos")
