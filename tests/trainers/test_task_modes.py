"""`python trainers/video.py` as a user meets it: killed, resumed, misused."""

import ast
import functools
import json
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from tests.trainers.runs import CLASSES, SCRIPT, finish, run, start
from trainers.core import checkpoint_files, checkpoints
from trainers.core.config import load_experiment
from trainers.core.errors import UserError
from trainers.video_classification import input_benchmark, modes
from trainers.video_classification.task import VideoClassificationTask


@pytest.fixture(scope="module")
def runs(config, tmp_path_factory):
    """A folder with the model directory `whole`, of a run from start to end."""
    folder = tmp_path_factory.mktemp("runs")
    output, errors = finish(start(config, folder / "whole"))
    (folder / "output.txt").write_text(output)
    (folder / "errors.txt").write_text(errors)
    return folder


@pytest.fixture(scope="module")
def killed_and_whole(config, runs):
    """And `killed`, of the same command, killed on the way and run again."""
    killed = start(config, runs / "killed")
    wait_for(runs / "killed" / "ckpt-8.index", killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (runs / "killed" / "ckpt-60.index").exists()
    finish(start(config, runs / "killed"))
    return runs


@pytest.fixture
def trained(runs):
    return runs / "whole"


@pytest.fixture(autouse=True)
def _same_process_settings_afterwards():
    yield
    tf.config.run_functions_eagerly(False)
    keras.config.set_dtype_policy("float32")


def wait_for(path, process):
    deadline = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)


# === A killed run (tests/trainers/core/test_runner.py stops and goes on as well) ===


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bits(killed_and_whole):
    one, two = (
        tf.train.load_checkpoint(str(killed_and_whole / name / "ckpt-60"))
        for name in ("killed", "whole")
    )
    names = one.get_variable_to_shape_map()
    assert names == two.get_variable_to_shape_map()
    compared = [name for name in names if name.startswith(("model/", "optimizer/"))]
    assert len(compared) > 100
    for name in compared:
        np.testing.assert_array_equal(
            one.get_tensor(name), two.get_tensor(name), err_msg=name
        )


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_results(killed_and_whole):
    one, two = (
        json.loads((killed_and_whole / name / "eval_results.json").read_text())
        for name in ("killed", "whole")
    )
    assert one == two


# === What a run leaves behind ===


def test_results_count_videos_and_name_the_broken_one(trained, videos):
    results = json.loads((trained / "eval_results.json").read_text())
    assert (results["step"], results["num_videos"], results["num_views"]) == (60, 6, 6)
    assert results["views"] == "one_view, 1 clip x 1 crop of 32x32"
    assert list(results["broken"]) == [str(videos / "val" / "red" / "text.mp4")]
    assert results["num_broken"] == 1
    assert 0 <= results["top1"] <= 1
    assert "top5" not in results  # of three classes


def test_it_learns_the_colours(trained):
    best = json.loads((trained / "best" / "info.json").read_text())
    assert best["top1"] >= 0.8


def test_the_broken_files_are_named_at_the_end(runs, videos):
    errors = (runs / "errors.txt").read_text()
    for split in ("train", "val"):
        assert str(videos / split / "red" / "text.mp4") in errors
    assert "Traceback" not in errors


def test_the_table_is_printed(runs):
    output = (runs / "output.txt").read_text()
    assert "by video" in output
    assert "Step 60" in output


def test_classes_and_config_are_kept(trained):
    assert (trained / "classes.txt").read_text().split() == list(CLASSES)
    saved = yaml.safe_load((trained / "params.yaml").read_text())
    assert saved["runtime"]["deterministic"]
    assert saved["task"]["train_data"]["seed"] is None


def first_clips(model_dir, *overrides):
    files = [str(model_dir / "params.yaml")]
    _, experiment = load_experiment(files, overrides, None)
    task = modes.build_task(experiment)
    return next(iter(task.build_inputs(experiment.task.train_data)))["clip"].numpy()


def test_the_seed_of_a_saved_config_still_moves_the_data(trained):
    as_saved = first_clips(trained)
    np.testing.assert_array_equal(as_saved, first_clips(trained))
    moved = first_clips(trained, "runtime.seed=5")
    assert not np.array_equal(moved, as_saved)
    own = first_clips(trained, "task.train_data.seed=5")
    np.testing.assert_array_equal(moved, own)


# === Modes that use a trained model, config read from its directory ===


def evaluated(trained, *overrides):
    """Results of an evaluation, the first ones kept in the directory."""
    path = trained / "eval_results.json"
    before = path.read_text()
    try:
        assert run("eval", trained, *overrides, checkpoint="last") == 0
        return json.loads(path.read_text()), json.loads(before)
    finally:
        path.write_text(before)


def test_eval_needs_no_config(trained, capsys):
    one_view = "task.validation_data.test_protocol=one_view"
    again, in_training = evaluated(trained, one_view)
    loss = in_training["validation_loss"]
    assert again["validation_loss"] == pytest.approx(loss, rel=1e-4)
    assert again["views"] == in_training["views"]
    output = capsys.readouterr().out
    assert "by video" in output and "one_view, 1 clip x 1 crop" in output


WHOLE_FRAMES = (
    "task.validation_data.test_protocol=paper",
    "task.validation_data.num_test_clips=2",
    "task.validation_data.min_short_side=32",
    "task.validation_data.crop_size=32",
)


def test_eval_scores_all_views_of_whole_frames(trained):
    results, _ = evaluated(trained, *WHOLE_FRAMES)
    assert (results["num_videos"], results["num_views"]) == (6, 12)
    assert results["views"] == "paper, 2 clips x whole frames"
    assert results["top1"] >= 0.8


def test_predict_scores_whole_frames(trained, videos, capsys):
    paths = [str(videos / "val" / name / "1.mp4") for name in CLASSES]
    assert run("predict", trained, *WHOLE_FRAMES, paths=paths, as_json=True) == 0
    best = [r["predictions"][0]["class"] for r in json.loads(capsys.readouterr().out)]
    assert sum(map(str.__eq__, best, CLASSES)) >= 2


def test_predict_names_the_class(trained, videos, capsys):
    path = str(videos / "val" / "green" / "0.mp4")
    assert run("predict", trained, paths=(path,), top_k=2, as_json=True) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["path"] == path
    assert len(result["predictions"]) == 2


def test_predict_of_a_broken_file_exits_with_1(trained, videos, capsys):
    path = str(videos / "val" / "red" / "text.mp4")
    assert run("predict", trained, paths=(path,)) == 1
    assert "text.mp4" in capsys.readouterr().err


def test_visualize_draws_a_block(trained, videos, tmp_path, capsys):
    path = str(videos / "val" / "green" / "0.mp4")
    options = {"blocks": ("res2_0",), "queries": ("1,16,20",)}
    options["output_dir"] = str(tmp_path)
    assert run("visualize", trained, paths=(path,), **options) == 0
    assert "res2_0_nonlocal  embedded_gaussian" in capsys.readouterr().out
    assert (tmp_path / "0" / "attention.html").is_file()
    assert (tmp_path / "0" / "res2_0_nonlocal_1_16_20.png").is_file()


def test_dry_run_shows_network_batches_and_changed_settings(config, tmp_path, capsys):
    assert run("dry_run", tmp_path, config=config) == 0
    output = capsys.readouterr().out
    network, batches, settings = (
        output.index(text)
        for text in ("res2_0", "train_data, one batch:", "Settings that differ")
    )
    assert network < batches < settings
    assert "validation_data, one batch:" in output
    assert output.count("(4, 4, 32, 32, 3)") == 2
    changed = output[settings:].splitlines()[1:]
    assert "  task.clip.temporal_stride: 8 -> 2" in changed
    assert "  trainer.train_steps: 1000 -> 60" in changed
    for left_alone in ("trainer.max_to_keep", "task.clip.mean", "task.model.name"):
        assert left_alone not in output[settings:]
    assert list(tmp_path.iterdir()) == []


def test_dry_run_prints_the_whole_config_on_request(config, tmp_path, capsys):
    run("dry_run", tmp_path, config=config, print_config=True)
    _, _, text = capsys.readouterr().out.partition("\nexperiment: ")
    values = yaml.safe_load(f"experiment: {text}")
    assert values["experiment"] == "video_classification"
    assert values["trainer"]["train_steps"] == 60
    assert values["trainer"]["max_to_keep"] == 3  # a default


@pytest.mark.parametrize("parts", [0, 3])  # batches of 4
def test_dry_run_refuses_what_training_would(config, tmp_path, parts):
    override = f"trainer.gradient_accumulation_steps={parts}"
    with pytest.raises(UserError, match="gradient_accumulation_steps"):
        run("dry_run", tmp_path, override, config=config)


def test_dry_run_opens_the_weights_to_start_from(config, tmp_path):
    page = tmp_path / "weights.pth"
    page.write_text("<!DOCTYPE html><html></html>")
    override = f"task.init_checkpoint={page}"
    with pytest.raises(UserError, match="it is an HTML page"):
        run("dry_run", tmp_path / "run", override, config=config)


def test_benchmark_input_prints_every_stage(config, tmp_path, capsys, monkeypatch):
    quick = functools.partial(input_benchmark.measure, seconds=0.1)
    monkeypatch.setattr(input_benchmark, "measure", quick)
    assert run("benchmark_input", tmp_path, config=config) == 0
    header, *stages, step, limit = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["stage", "clips/s"]
    names = ["read, decode", "+ augment", "+ batch, prefetch"]
    assert [line[:20].strip() for line in stages] == names
    assert all(float(line[20:29]) > 0 for line in stages)
    assert "A training step of 4 clips waits for input" in step
    assert limit.startswith("Limit: ")
    assert list(tmp_path.iterdir()) == []


# === Mistakes ===


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.train_data.input_path=/nowhere", "/nowhere"),
        ("task.modle.width=3", "Did you mean 'model'"),
        ("task.model.name=i3", "Did you mean 'i3d'"),
        ("task.model.num_classes=400", "num_classes is 400, but there are 3"),
        ("task.model.depth=51", "depth"),
        ("task.train_data.crop_size=4", "cannot take clips of .4, 4, 4, 3."),
        ("task.losses.label_smoothing=1", "must be in .0, 1."),
        ("task.train_data.is_multilabel=true", "is_multilabel"),
        ("task.init_checkpoint=/nowhere", "No checkpoint at /nowhere"),
        ("task.evaluation.view_aggregation=median", "Did you mean 'mean'"),
        ("task.train_data.is_training=false", "is_training is False"),
        ("task.validation_data.test_protocol=mmaction", "Did you mean 'mmaction2'"),
        ("trainer.best_checkpoint_eval_metric=top2", "one of: top1, view_top1, val"),
        ("trainer.train_steps=0", "train_steps must be positive"),
        ("task.train_data.max_broken_fraction=0.0", "max_broken_fraction"),
    ],
)
def test_a_mistake_is_reported_before_or_at_the_first_step(
    config, tmp_path, override, message
):
    with pytest.raises(ValueError, match=message):
        run("train", tmp_path, "trainer.train_steps=30", override, config=config)


@pytest.mark.parametrize(
    "override",
    [
        "trainer.best_checkpoint_metric_comp=lowr",
        "trainer.optimizer_config.optimizer.sgd.global_clipnorm=-1",
        "task.model.depth=51",
    ],
)
def test_a_mistake_does_not_stay_in_the_model_directory(config, tmp_path, override):
    with pytest.raises(ValueError):
        run("train", tmp_path, override, config=config)
    assert not (tmp_path / "params.yaml").exists()


def test_an_empty_class_is_an_error(config, videos, tmp_path):
    for name in ("green", "red"):
        (tmp_path / name).symlink_to(videos / "train" / name)
    (tmp_path / "blue").mkdir()
    with pytest.raises(ValueError, match="class 'blue' has no videos"):
        run("train", tmp_path, f"task.train_data.input_path={tmp_path}", config=config)


@pytest.mark.parametrize("mode", ["eval", "export", "predict"])
def test_an_untrained_directory_is_an_error(mode, tmp_path):
    with pytest.raises(UserError, match="nothing has been trained there"):
        run(mode, tmp_path, paths=("x.mp4",))


def test_an_unknown_mode_is_an_error(tmp_path):
    with pytest.raises(UserError, match="'trian'. Did you mean 'train'"):
        run("trian", tmp_path)


def test_another_model_in_the_same_directory_is_refused(trained, config):
    with pytest.raises(UserError, match="task.model.width: 4 -> 8"):
        run("train", trained, "task.model.width=8", config=config)


def test_other_classes_in_the_same_directory_are_refused(
    trained, config, videos, tmp_path
):
    (tmp_path / "pink").symlink_to(videos / "train" / "red")
    (tmp_path / "green").symlink_to(videos / "train" / "green")
    other = f"task.train_data.input_path={tmp_path}"
    message = "The classes have changed.*(added: pink; removed: blue, red)"
    with pytest.raises(UserError, match=message):
        run("train", trained, other, config=config)


def test_a_checkpoint_of_another_width_is_refused(trained, config, tmp_path):
    with pytest.raises(UserError, match=r"(?s)conv1/kernel.*Set task\.model\.width="):
        run(
            "train",
            tmp_path,
            "task.model.width=8",
            f"task.init_checkpoint={trained}",
            config=config,
        )


def fine_tuning_task(trained, config, videos, folder, *overrides):
    """Two of the three classes, from what all three were trained to."""
    for name in ("red", "green"):
        (folder / name).symlink_to(videos / "train" / name)
    settings = (
        f"task.train_data.input_path={folder}",
        f"task.validation_data.input_path={folder}",
        f"task.init_checkpoint={trained}",
        *overrides,
    )
    _, experiment = load_experiment([str(config)], settings, None)
    return VideoClassificationTask(experiment.task)


def test_fine_tuning_on_other_classes_keeps_all_but_the_classifier(
    trained, config, videos, tmp_path
):
    task = fine_tuning_task(
        trained, config, videos, tmp_path, "task.init_checkpoint_modules=backbone"
    )
    model = task.build_model()
    classifier = model.get_layer("pred").get_weights()
    task.initialize(model)
    source = checkpoint_files.find(str(trained))
    for path, variable in checkpoints.by_path(model.weights).items():
        if not path.startswith("pred/"):
            key = f"model/{path.replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"
            saved = tf.train.load_variable(source, key)
            np.testing.assert_array_equal(variable.numpy(), saved, path)
    for before, after in zip(
        classifier, model.get_layer("pred").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_fine_tuning_on_other_classes_names_the_setting(
    trained, config, videos, tmp_path
):
    task = fine_tuning_task(trained, config, videos, tmp_path)
    message = (
        r"(?s)init_checkpoint_modules=backbone.*classes were others .removed: blue"
    )
    with pytest.raises(UserError, match=message):
        task.initialize(task.build_model())


def test_fine_tuning_on_classes_of_other_names_names_them(
    trained, config, videos, tmp_path, capsys
):
    (tmp_path / "pink").symlink_to(videos / "train" / "blue")
    task = fine_tuning_task(trained, config, videos, tmp_path)
    task.initialize(task.build_model())
    expected = "! its classes were others (added: pink; removed: blue)"
    assert expected in capsys.readouterr().err


def test_the_command_knows_every_mode():
    """It lists them itself: the modes are imported after the flags are checked."""
    tree = ast.parse(SCRIPT.read_text())
    listed = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "MODES"
    }
    assert set(listed["MODES"]) == set(modes.MODES)
    assert all(mode in ast.get_docstring(tree) for mode in modes.MODES)


def test_a_missing_flag_is_one_line_and_exit_code_1(config):
    process = subprocess.run(
        [sys.executable, SCRIPT, "--config", config, "--mode", "train"],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert process.returncode == 1
    assert process.stderr.startswith("error: --model_dir is required")
    assert "Traceback" not in process.stderr


@pytest.mark.slow
def test_classes_that_start_with_a_count_keep_it(config, videos, tmp_path, capsys):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for number, name in enumerate(("red", "green"), 1):
            link = tmp_path / split / f"{number} {name}"
            link.symlink_to(videos / split / name)
    folders = (
        f"task.train_data.input_path={tmp_path / 'train'}",
        f"task.validation_data.input_path={tmp_path / 'val'}",
    )
    model_dir = tmp_path / "model"
    for _ in range(2):  # the second run finds the same classes, and nothing to do
        run("train", model_dir, *folders, "trainer.train_steps=1", config=config)
    run("eval", model_dir)
    capsys.readouterr()
    path = str(videos / "val" / "green" / "0.mp4")
    run("predict", model_dir, paths=(path,), as_json=True)
    (result,) = json.loads(capsys.readouterr().out)
    assert sorted(p["class"] for p in result["predictions"]) == ["1 red", "2 green"]
