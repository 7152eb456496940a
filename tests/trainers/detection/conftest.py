"""A small data set of generated shapes, and the config of a small network."""

import pytest
import yaml

from trainers.detection.shapes import write_images

NUM_IMAGES = {"train": 8, "val": 4}


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """Folder with `train` and `val`, of images of 128 x 128 pixels."""
    folder = tmp_path_factory.mktemp("shapes")
    for seed, (split, count) in enumerate(NUM_IMAGES.items()):
        write_images(str(folder / split), count, seed=seed)
    return folder


def small_config(folder, name="mask_rcnn"):
    """A config of two steps on a network of 8 channels and images of 64 pixels."""
    target = "keypoints" if name == "keypoint_rcnn" else "instances"

    def data(split):
        return {
            "input_path": str(folder / split / "images"),
            "annotation_file": str(folder / split / f"{target}.json"),
            "global_batch_size": 2,
            "min_size": [64],
            "max_size": 96,
        }

    return {
        "experiment": "detection",
        "task": {
            "model": {
                "name": name,
                "depth": 14,
                "width": 8,
                "non_local": {"res4": [0]},
                "head_non_local": name == "keypoint_rcnn",
                "anchor_sizes": [8, 16, 32, 64, 128],
            },
            "train_data": data("train"),
            "validation_data": data("val"),
            "sampling": {"rpn_batch_size": 32, "box_batch_size": 16},
        },
        "trainer": {
            "train_steps": 2,
            "steps_per_loop": 1,
            "checkpoint_interval": 1,
            "validation_interval": 2,
            "optimizer_config": {"reference_batch_size": 2},
        },
    }


@pytest.fixture(scope="session", params=["mask_rcnn", "keypoint_rcnn"])
def any_config(request, shapes, tmp_path_factory):
    """The path of a config, of each network."""
    path = tmp_path_factory.mktemp("config") / f"{request.param}.yaml"
    path.write_text(yaml.safe_dump(small_config(shapes, request.param)))
    return path


@pytest.fixture(scope="session")
def config(shapes, tmp_path_factory):
    """The path of a config of Mask R-CNN."""
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(small_config(shapes)))
    return path
