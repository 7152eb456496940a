"""Model directories that are remote, damaged or on a read-only disk, in every mode."""

import json
import os
import shutil
import uuid

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.runs import run
from trainers.core import checkpoint_files, files
from trainers.core.errors import UserError

SETTINGS = (
    "runtime.deterministic=true",
    "trainer.checkpoint_interval=1",
    "trainer.validation_interval=2",
    "task.validation_data.views_in_training=all",
    "task.validation_data.num_test_clips=1",
)


@pytest.fixture(autouse=True)
def _same_process_settings_afterwards():
    yield
    tf.config.run_functions_eagerly(False)
    keras.config.set_dtype_policy("float32")


def train(config, model_dir, steps):
    steps = f"trainer.train_steps={steps}"
    return run("train_and_eval", model_dir, *SETTINGS, steps, config=config)


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """A local model directory."""
    folder = tmp_path_factory.mktemp("runs") / "local"
    train(config, folder, 2)
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def predictions(model_dir, video, capsys):
    capsys.readouterr()
    assert run("predict", model_dir, *SETTINGS, paths=(str(video),), as_json=True) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_remote_directory_works_as_a_local_one(
    trained, config, videos, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    remote = f"ram://{uuid.uuid4().hex}/run"
    train(config, remote, 1)
    train(config, remote, 2)  # resumes
    assert f"Resuming from {remote}/ckpt-1" in capsys.readouterr().err
    for name in ("classes.txt", "params.yaml", "eval_results.json", "best/info.json"):
        assert files.read_text(f"{remote}/{name}") == (trained / name).read_text()
    mine, theirs = (
        dict(checkpoint_files.read(f"{folder}/ckpt-2")) for folder in (trained, remote)
    )
    assert mine.keys() == theirs.keys() and len(mine) > 100
    for key in mine.keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
        np.testing.assert_array_equal(mine[key], theirs[key], err_msg=key)
    run("eval", remote, *SETTINGS)
    results = files.read_json(f"{remote}/eval_results.json")
    assert results.pop("in_training") is False
    expected = files.read_json(trained / "eval_results.json")
    assert results == {k: v for k, v in expected.items() if k != "in_training"}
    video = videos / "val" / "green" / "0.mp4"
    local = predictions(trained, video, capsys)
    assert predictions(remote, video, capsys) == local
    for folder in (trained, remote):
        run("export", folder, *SETTINGS)
    extra = "export/1/assets.extra/export.json"  # with the differences of the logits
    assert files.read_json(f"{remote}/{extra}") == files.read_json(trained / extra)
    assert files.is_file(f"{remote}/export/1/saved_model.pb")
    assert os.listdir(tmp_path) == []


# === Damaged files ===


@pytest.mark.parametrize("text", ["", "experiment: video_classification\ntask: {}\n"])
def test_a_damaged_config_is_named(copy, config, capsys, text):
    path = copy / "params.yaml"
    saved = path.read_text()
    path.write_text(text)
    with pytest.raises(UserError, match=rf"{path}: .*damaged. Give the --config"):
        run("eval", copy)
    train(config, copy, 2)
    assert f"warning: {path}: " in capsys.readouterr().err
    assert path.read_text() == saved


def test_an_empty_list_of_classes_is_named(copy, config, capsys):
    path = copy / "classes.txt"
    saved = path.read_text()
    path.write_text("")
    with pytest.raises(UserError, match=rf"{path}: holds no class names.*run it once"):
        run("eval", copy)
    train(config, copy, 2)
    assert f"warning: {path}: " in capsys.readouterr().err
    assert path.read_text() == saved


def test_a_changed_list_of_classes_is_named(copy, config, capsys):
    path = copy / "classes.txt"
    saved = path.read_text()
    path.write_text("".join(reversed(saved.splitlines(keepends=True))))
    for mode in ("predict", "eval", "export"):
        with pytest.raises(UserError, match=rf"{path}: was changed after the training"):
            run(mode, copy, *SETTINGS, paths=("x.mp4",))
    assert not (copy / "export").exists()
    train(config, copy, 2)
    assert f"warning: {path}: was changed" in capsys.readouterr().err
    assert path.read_text() == saved


def test_a_changed_list_of_classes_does_not_hide_changed_data(copy, config, tmp_path):
    path, names = copy / "classes.txt", tmp_path / "names.txt"
    swapped = "".join(reversed(path.read_text().splitlines(keepends=True)))
    path.write_text(swapped)
    names.write_text(swapped)
    with pytest.raises(UserError, match="training data have other classes"):
        run(
            "train",
            copy,
            *SETTINGS,
            f"task.train_data.class_file={names}",
            "trainer.train_steps=2",
            config=config,
        )
    assert path.read_text() == swapped


def damage(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_a_damaged_checkpoint_is_replaced_or_another_is_named(copy, videos, capsys):
    options = {"paths": (str(videos / "val" / "green" / "0.mp4"),)}
    best = checkpoint_files.find(copy / "best")
    damage(copy / "best" / "best-2.data-00000-of-00001")
    for name in ("best", best):
        with pytest.raises(UserError, match=f"newest whole one is {copy}/ckpt-2"):
            run("predict", copy, *SETTINGS, checkpoint=name, **options)
    damage(copy / "ckpt-2.index")
    assert run("predict", copy, *SETTINGS, **options) == 0
    err = capsys.readouterr().err
    for prefix in (best, copy / "ckpt-2"):
        assert f"warning: {prefix}: is damaged" in err
    assert err.count(f"Using {copy}/ckpt-1 instead.") == 2


# === Disks ===


def test_scores_are_printed_before_a_disk_is_found_to_be_read_only(
    trained, small_disk, make_read_only, capsys
):
    disk = small_disk(64 << 20)
    folder = shutil.copytree(trained, disk / "run")
    make_read_only(disk)
    with pytest.raises(UserError, match=r"run/eval_results.json: .*Read-only"):
        run("eval", folder, *SETTINGS)
    printed = capsys.readouterr()
    assert "by video" in printed.out
    assert f"warning: {folder}/validation: cannot be written" in printed.err


def test_training_on_a_read_only_disk_is_one_error(config, small_disk, make_read_only):
    disk = small_disk(1 << 20)
    make_read_only(disk)
    with pytest.raises(UserError, match=r"disk0/run: .*Read-only"):
        train(config, disk / "run", 2)
    with pytest.raises(UserError, match=r"disk0/.lock: .*Read-only"):
        train(config, disk, 2)
