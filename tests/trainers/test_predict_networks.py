"""Networks behind `--mode predict`: trained and exported ones score alike."""

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.trainers import test_export
from tests.trainers.runs import SCRIPT
from tests.trainers.test_export import make_model
from tests.trainers.test_predict_windows import noise, run, scores, write
from trainers.core.errors import UserError
from trainers.video_classification import modes, predict, predictors
from trainers.video_classification.configs import EvaluationConfig
from trainers.video_classification.data import normalize, read_views
from trainers.video_classification.export import export_saved_model

pytestmark = pytest.mark.slow


def make_task(**data):
    task = test_export.make_task(**data)
    task.task_config.evaluation = EvaluationConfig()
    return task


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return make_model(non_local={"res3": [0]})


@pytest.fixture(scope="module")
def export_dir(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    export_saved_model(make_task(), model, folder)
    return folder


def records(output):
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("size", [(48, 62), (41, 37), (36, 36)])
def test_an_export_has_the_scores_of_the_trained_network(
    model, export_dir, tmp_path, capsys, size
):
    video = write(tmp_path / "a.mkv", noise(60, *size))
    options = {"window": 1.0, "as_json": True}
    assert run(predictors.of_model(make_task(), model), video, **options) == 0
    expected = records(capsys.readouterr().out)
    for path in (export_dir, export_dir / "1"):
        found = modes.Options(
            "", export_dir=str(path), paths=(video,), top_k=3, **options
        )
        assert predict.run_exported(found) == 0
        found = records(capsys.readouterr().out)
        assert [x["start"] for x in found] == [x["start"] for x in expected]
        for a, b in zip(found, expected, strict=True):
            assert scores(a) == pytest.approx(scores(b), abs=1e-5)
    assert len({x["score"] for x in expected}) > 1


def test_predicting_with_an_export_imports_nothing_that_trains(export_dir, tmp_path):
    """Keras, what trains and what draws take two seconds more."""
    video = write(tmp_path / "a.mkv", noise(20, 36, 36))
    script = "import runpy, sys; sys.argv = sys.argv[1:]; sys.path.insert(0, '')"
    ends = "except SystemExit as end: print(*sys.modules, file=sys.stderr)"
    script += f"\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n{ends}"
    flags = ["--mode", "predict", "--export_dir", export_dir, video]
    done = subprocess.run(
        [sys.executable, "-c", script, SCRIPT, *flags], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith(video)
    imported = set(done.stderr.split())
    assert {"tensorflow", "trainers.video_classification.predict"} <= imported
    unused = {"keras", "keras_nonlocal", "official.core", "tensorflow_datasets"}
    unused |= {"orbit", "matplotlib", "sklearn", "trainers.core.trainer"}
    assert not unused & imported


def test_features_are_the_mean_of_pool5_over_views(model, tmp_path):
    task = make_task(num_test_clips=2, num_test_crops=3)
    video = write(tmp_path / "a.mkv", noise(40, 40, 52))
    predictor = predictors.of_model(task, model, with_features=True)
    options = {"features": "npz", "output_dir": str(tmp_path / "out")}
    assert run(predictor, video, **options) == 0
    found = np.load(tmp_path / "out" / "a.features.npz")["features"]
    config = task.task_config
    views = read_views(video, config.validation_data, config.clip)
    pooled = keras.Model(model.input, model.get_layer("pool5").output)
    expected = np.asarray(pooled(normalize(views, config.clip), training=False))
    np.testing.assert_allclose(found, expected.mean(axis=0)[None], rtol=1e-4, atol=1e-5)


def test_features_of_an_export_are_those_of_the_trained_network(
    model, export_dir, tmp_path
):
    video, found = write(tmp_path / "a.mkv", noise(60, 48, 62)), {}
    for name, predictor in {
        "trained": predictors.of_model(make_task(), model, with_features=True),
        "exported": predictors.of_export(str(export_dir), with_features=True),
    }.items():
        out = tmp_path / name
        options = {"features": "npz", "window": 1.0, "output_dir": str(out)}
        assert run(predictor, video, **options) == 0
        found[name] = np.load(out / "a.features.npz")["features"]
    assert found["trained"].shape[0] == 3
    np.testing.assert_allclose(
        found["exported"], found["trained"], rtol=1e-4, atol=1e-5
    )


def test_an_export_that_is_damaged_or_none_is_one_clear_error(export_dir, tmp_path):
    options = modes.Options("", paths=("a.mp4",), export_dir=str(tmp_path))
    with pytest.raises(UserError, match="No export in .*run --mode export"):
        predict.run_exported(options)
    shutil.copytree(export_dir / "1", tmp_path / "7")
    (tmp_path / "7" / "assets" / "preprocessing.json").write_text("{}")
    with pytest.raises(UserError, match="7: this export cannot be loaded"):
        predict.run_exported(options)
