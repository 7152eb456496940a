"""Every recipe trains two steps at its number of replicas, evaluates and exports."""

import json
import math

import pytest

from tests.trainers.recipes import CONFIGS, load, named, num_replicas
from tests.trainers.video_recipes import ALL, run, write_data

# Of every kind one, as a graph: new blocks on long clips with frozen normalisation; an
# ImageNet start by another project's rules; several labels; a batch in parts; the demo.
REPRESENTATIVE = [
    CONFIGS / f"{name}.yaml"
    for name in (
        "kinetics400/nl_i3d_r50_32x4",
        "kinetics400/mmaction2_nl_i3d_r50_32x2_dot_product",
        "charades_nl_i3d_r50",
        "folder_nl_i3d_r50_128f",
        "demo/nl_c2d",
    )
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    write_data(folder)
    return folder


def check(path, model_dir):
    data = load(path).task.validation_data
    views = data.num_test_clips * data.num_test_crops
    results = json.loads((model_dir / "eval_results.json").read_text())
    assert (results["step"], results["num_videos"]) == (2, 2)
    assert results["num_views"] == 2 * views
    assert not results["broken"] and not results["missing"]
    assert math.isfinite(results["validation_loss"])
    version = model_dir / "export" / "1"
    classes = (version / "assets/classes.txt").read_text().split()
    assert len(classes) == (157 if data.is_multilabel else 2)
    assert (version / "saved_model.pb").is_file()


def test_the_numbers_of_replicas_are_those_of_the_headers():
    assert num_replicas(CONFIGS / "kinetics400/nl_i3d_r50_8x8.yaml") == 8
    assert num_replicas(CONFIGS / "charades_i3d_r101.yaml") == 8
    assert num_replicas(CONFIGS / "folder_nl_i3d_r50.yaml") == 1


@pytest.mark.slow
@pytest.mark.parametrize("path", REPRESENTATIVE, ids=named)
def test_recipes_of_every_kind_run(path, folder):
    check(path, run(path, folder))


# Eagerly: TensorFlow traces a step once for each replica, which would take hours.
@pytest.mark.recipes
@pytest.mark.parametrize("path", ALL, ids=named)
def test_every_recipe_runs(path, folder):
    check(path, run(path, folder, "runtime.run_eagerly=true"))
