"""Training from torchvision's weights, by `task.init_checkpoint`."""

import numpy as np
import pytest

from tests.convert.files_of_weights import write
from tests.convert.test_torchvision_detection import detector
from tests.parity import detectors
from tests.parity.test_torchvision_detection import assert_same_detections
from tests.trainers.detection import recipes
from tests.trainers.recipes import CONFIGS
from trainers.core import config as config_lib
from trainers.core.errors import UserError
from trainers.detection.modes import build_task

HEADS = {
    "box_logits",
    "box_deltas",
    "mask_logits",
}  # their sizes follow from the classes


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of torchvision's Mask R-CNN v1 with 3 classes, of 8 channels."""
    return write(dict(detector()), tmp_path_factory.mktemp("weights") / "mask_rcnn.pth")


def load(path, *overrides):
    return build_task(config_lib.load_experiment([str(path)], overrides)[1])


def values(model):
    return {weight.path: weight.numpy() for weight in model.weights}


def test_a_head_of_other_classes_is_refused_and_says_what_to_set(config, weights):
    task = load(config, f"task.init_checkpoint={weights}")
    model = task.build_model()
    before = values(model)
    with pytest.raises(UserError) as error:
        task.initialize(model)
    message = str(error.value)
    assert "box_logits/kernel (128, 4) <- " in message
    assert "task.init_checkpoint_modules=backbone" in message
    for path, array in values(model).items():
        np.testing.assert_array_equal(array, before[path], err_msg=path)


def test_a_head_of_other_classes_starts_anew_and_the_rest_is_loaded(config, weights):
    start = f"task.init_checkpoint={weights}"
    task = load(config, start, "task.init_checkpoint_modules=backbone")
    model = task.build_model()
    before = values(model)
    task.initialize(model)
    kept = {x.split("/")[0] for x in before if (values(model)[x] == before[x]).all()}
    assert kept == {*HEADS, "res4_0_nonlocal"}
    state, found = detector(), values(model)
    bias = state["rpn.head.cls_logits.bias"]
    np.testing.assert_array_equal(found["rpn_logits/bias"], bias)
    kernel = state["roi_heads.mask_head.2.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found["mask_conv3/kernel"], kernel)


@pytest.mark.slow
def test_a_task_starts_from_what_torchvision_detects(tmp_path):
    """The recorded network, 91 classes, with a new block, by the recipe's settings."""
    recorded = detectors.read("maskrcnn")
    recipes.write_data(tmp_path)
    path = CONFIGS / "coco_mask_rcnn_r50_nl_torchvision.yaml"
    settings = [
        f"task.init_checkpoint={write(recorded.state, tmp_path / 'coco.pth')}",
        "task.init_checkpoint_epsilon=null",  # of the recorded network
    ]
    for name, split in (("train_data", "train"), ("validation_data", "val")):
        root = tmp_path / "data/coco"
        settings += [
            f"task.{name}.input_path={root / f'{split}2017'}",
            f"task.{name}.annotation_file={root}/annotations/instances_{split}2017.json",
            f"task.{name}.min_size=[{recorded.min_size}]",
            f"task.{name}.max_size={recorded.max_size}",
        ]
    task = load(path, *settings)
    model = task.build_model()
    task.initialize(model)
    assert model.backbone.get_layer("res4_4_nonlocal")
    for i, found in enumerate(model.detect(recorded.images, batch_size=2)):
        assert_same_detections(found, recorded, i)
