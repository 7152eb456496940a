"""Predicting on files: the right class, every view, and files that are broken."""

import json
import os
import subprocess
import sys
import types

import keras
import numpy as np
import pytest

from trainers.core.errors import UserError
from trainers.video_classification import predict, predictors
from trainers.video_classification.configs import EvaluationConfig
from trainers.video_classification.data import write_video
from trainers.video_classification.data.configs import ClipConfig, DataConfig
from trainers.video_classification.modes import Options

COLORS = ("red", "green", "blue")
MEAN, STD = 127.5, 63.75


def make_task(view_aggregation="mean", **data):
    config = types.SimpleNamespace(
        clip=ClipConfig(
            num_frames=2, temporal_stride=1, mean=(MEAN,) * 3, std=(STD,) * 3
        ),
        train_data=DataConfig(crop_size=16),
        validation_data=DataConfig(min_short_side=16, crop_size=16, **data),
        evaluation=EvaluationConfig(view_aggregation=view_aggregation),
    )
    return types.SimpleNamespace(task_config=config, class_names=COLORS)


def run(task, model, paths, top_k=5, **options):
    """The exit code of `--mode predict`."""
    options = Options("", paths=tuple(map(str, paths)), top_k=top_k, **options)
    return predict.run(predictors.of_model(task, model), options)


@pytest.fixture
def predicted(capsys):
    """Function like `run` that gives the results."""

    def results(*arguments, **options):
        run(*arguments, **options, as_json=True)
        return json.loads(capsys.readouterr().out)

    return results


@pytest.fixture(scope="module")
def model():
    """Logits are the mean of the normalised red, green and blue."""
    clips = keras.Input((None, None, None, 3))
    return keras.Model(clips, keras.layers.GlobalAveragePooling3D()(clips))


def write_colors(path, *colors, size=(16, 16)):
    """A video of one frame per color, each of which is an index of RGB."""
    frames = np.zeros((len(colors), *size, 3), np.uint8)
    for frame, color in zip(frames, colors, strict=True):
        frame[..., color] = 255
    write_video(str(path), frames)
    return str(path)


def scores_of(result):
    by_class = {row["class"]: row["score"] for row in result["predictions"]}
    return np.array([by_class[name] for name in COLORS])


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


# One channel at 255 and two at 0; H.264 keeps colors to a few levels.
RED = softmax(np.array([2.0, -2.0, -2.0]))


def test_the_scores_are_those_of_the_network(model, tmp_path, predicted):
    path = write_colors(tmp_path / "a.mp4", 0, 0, 0)
    (result,) = predicted(make_task(), model, [path], top_k=3)
    assert result["path"] == path
    assert [row["class"] for row in result["predictions"]][0] == "red"
    assert [row["label"] for row in result["predictions"]][0] == 0
    np.testing.assert_allclose(scores_of(result), RED, atol=0.01)


def test_views_are_aggregated_as_in_evaluation(model, tmp_path, predicted):
    path = write_colors(tmp_path / "a.mp4", *[0] * 6, *[2] * 6)
    views = {"num_test_clips": 2, "num_test_crops": 3}
    blue = RED[::-1]
    for how, expected in {
        "mean": (RED + blue) / 2,
        "max": np.maximum(RED, blue),
    }.items():
        (result,) = predicted(make_task(how, **views), model, [path], top_k=3)
        np.testing.assert_allclose(scores_of(result), expected, atol=0.01)


def test_multilabel_scores_are_sigmoids(model, tmp_path, predicted):
    path = write_colors(tmp_path / "a.mp4", 1, 1)
    (result,) = predicted(make_task(is_multilabel=True), model, [path], top_k=3)
    expected = 1 / (1 + np.exp([2.0, -2.0, 2.0]))
    np.testing.assert_allclose(scores_of(result), expected, atol=0.02)


def test_top_k_is_clipped_to_the_classes(model, tmp_path, predicted):
    path = write_colors(tmp_path / "a.mp4", 0, 0)
    for top_k, count in ((1, 1), (2, 2), (99, 3)):
        (result,) = predicted(make_task(), model, [path], top_k)
        assert len(result["predictions"]) == count


def test_folders_are_searched_recursively(model, tmp_path, predicted):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    paths = [
        write_colors(tmp_path / "deep" / "b.mp4", 2, 2),
        write_colors(tmp_path / "deep" / "er" / "a.mkv", 1, 1),
    ]
    (tmp_path / "deep" / "notes.txt").write_text("not a video")
    results = predicted(make_task(), model, [tmp_path], top_k=1)
    assert [result["path"] for result in results] == paths
    best = [result["predictions"][0]["class"] for result in results]
    assert best == ["blue", "green"]


def test_a_broken_file_does_not_stop_the_others(model, tmp_path, capsys):
    good = write_colors(tmp_path / "good.mp4", 1, 1)
    text = tmp_path / "text.mp4"
    text.write_text("these are not the frames you are looking for")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    missing = tmp_path / "missing.mp4"
    paths = [text, empty, missing, folder, good]
    assert run(make_task(), model, paths, 1) == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == good
    assert printed.out.splitlines()[1].split()[0] == "green"
    errors = printed.err.splitlines()
    for path, line in zip(paths, errors, strict=False):
        assert line.startswith(f"error: {path}: "), line
        assert line.count(str(path)) == 1
    assert "holds no videos" in errors[3]


def test_json_is_one_document_and_errors_are_in_it(model, tmp_path, capsys):
    good = write_colors(tmp_path / "good.mp4", 1, 1)
    bad = str(tmp_path / "missing.mp4")
    assert run(make_task(), model, [good, bad], 2, as_json=True) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert first["predictions"][0]["class"] == "green"
    assert first["predictions"][0]["label"] == 1
    assert second["path"] == bad and second["error"]


def test_success_is_exit_code_zero(model, tmp_path, capsys):
    path = write_colors(tmp_path / "a.mp4", 0, 0)
    assert run(make_task(), model, [path]) == 0
    assert capsys.readouterr().err == ""


def test_scores_that_are_not_finite_are_an_error(tmp_path, predicted):
    clips = keras.Input((None, None, None, 3))
    mean = keras.layers.GlobalAveragePooling3D()(clips)
    model = keras.Model(clips, mean * float("nan"))
    path = write_colors(tmp_path / "a.mp4", 0, 0)
    (result,) = predicted(make_task(), model, [path])
    assert "not finite" in result["error"]


def test_nothing_to_predict_is_an_error(model):
    with pytest.raises(UserError, match="Nothing to predict"):
        run(make_task(), model, [])


def test_top_k_below_one_is_an_error(model):
    with pytest.raises(UserError, match="Received: top_k=0"):
        run(make_task(), model, ["a.mp4"], top_k=0)


def test_a_name_that_is_not_utf8_survives_in_json(model, tmp_path, capsys):
    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4")
    os.rename(write_colors(tmp_path / "a.mp4", 0, 0), name)
    broken = os.path.join(os.fsencode(tmp_path), b"\xff.mp4")
    with open(broken, "wb") as file:
        file.write(b"not a video")
    paths = [os.fsdecode(name), os.fsdecode(broken)]
    assert run(make_task(), model, paths, as_json=True) == 1
    output = capsys.readouterr().out.encode("utf-8")  # strict: no lone surrogates
    good, bad = json.loads(output)
    assert [os.fsencode(x["path"]) for x in (good, bad)] == [name, broken]
    assert good["predictions"][0]["class"] == "red" and bad["error"]
    assert run(make_task(), model, paths) == 1
    output, errors = capsys.readouterr()
    assert "caf\\udce9.mp4\n  red" in output and "\\udcff.mp4: " in errors


def test_control_characters_in_names_are_escaped(model, tmp_path, capsys):
    path = tmp_path / "\x1b[31m\n.mp4"
    path.write_bytes(b"not a video")
    assert run(make_task(), model, [path]) == 1
    errors = capsys.readouterr().err
    assert "\\x1b[31m\\n.mp4: " in errors and "\x1b" not in errors


_SCRIPT = """
import subprocess
import sys
from trainers.core import cli
cli.start(lambda arguments: print("\u00e9", *arguments[1:]))
"""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_is_not_utf8_can_be_printed(encoding):
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, b"caf\xe9.mp4"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    shown = {"utf-8": "\u00e9 caf\\udce9.mp4", "ascii": "\\xe9 caf\\udce9.mp4"}
    assert done.stdout.decode() == shown[encoding] + "\n" and not done.stderr
