"""Every recipe trains two steps at its number of replicas, evaluates and exports."""

import json
import math

import pytest

from tests.trainers.detection.recipes import ALL, COCO_IDS, NUM_IMAGES, run, write_data
from tests.trainers.recipes import load, named


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    write_data(folder)
    return folder


def num_classes(path):
    """The background included; those of COCO have gaps."""
    if "demo_detection" in str(path):
        shapes = 2 if "keypoint" in path.name else 4
        return 3 if "keys" in path.name else shapes
    if path.name.startswith("folder_"):
        return 3
    return 2 if "keypoint" in path.name else COCO_IDS[-1] + 1


# Eagerly: TensorFlow traces a step once for each replica, which would take hours.
@pytest.mark.recipes
@pytest.mark.parametrize("path", ALL, ids=named)
def test_every_recipe_runs(path, folder):
    model_dir = run(path, folder, "runtime.run_eagerly=true")
    results = json.loads((model_dir / "eval_results.json").read_text())
    target = load(path).task.model.target.removesuffix("s")
    assert results["step"] == 2
    for metric in ("box_AP", f"{target}_AP"):
        assert math.isfinite(results[metric])
    assert not results["broken"] and not results["missing"]
    for kind in ("bbox", {"mask": "segm"}.get(target, "keypoints")):
        found = json.loads((model_dir / f"results_{kind}.json").read_text())
        assert len({x["image_id"] for x in found}) <= NUM_IMAGES["val"]
    version = model_dir / "export" / "1"
    classes = (version / "assets/classes.txt").read_text().splitlines()
    assert len(classes) == num_classes(path)
    assert (version / "saved_model.pb").is_file()
