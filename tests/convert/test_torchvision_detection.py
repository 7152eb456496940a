"""Names and layouts of torchvision's detectors; `tests/parity` has their numbers."""

import re

import keras
import numpy as np
import pytest

from keras_nonlocal import KeypointRCNN, MaskRCNN
from keras_nonlocal.convert import CheckpointError, load_weights
from tests.backends import to_numpy

WIDTH, CLASSES, KEYPOINTS = 8, 3, 5
CHANNELS = 4 * WIDTH


class State(dict):
    """Weights by torchvision's names, drawn in order; variances above 0.5."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def add(self, name, *shape, bias=False, norm=None):
        self[f"{name}.weight"] = self.rng.normal(size=shape).astype("float32")
        if bias:
            outputs = shape[1] if bias == "transposed" else shape[0]
            self[f"{name}.bias"] = self.rng.normal(size=outputs).astype("float32")
        if norm:
            for key in ("weight", "bias", "running_mean", "running_var"):
                vector = self.rng.uniform(0.5, 1, shape[0]).astype("float32")
                self[f"{norm}.{key}"] = vector
            self[f"{norm}.num_batches_tracked"] = np.array(7)


def body(prefix=""):
    """A ResNet-14 of bottlenecks."""
    state = State()
    state.add(f"{prefix}conv1", WIDTH, 3, 7, 7, norm=f"{prefix}bn1")
    inputs = WIDTH
    for i in range(4):
        block, width = f"{prefix}layer{i + 1}.0", WIDTH * 2**i
        shapes = (width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)
        for k, shape in enumerate(shapes, 1):
            state.add(f"{block}.conv{k}", *shape, norm=f"{block}.bn{k}")
        down = f"{block}.downsample"
        state.add(f"{down}.0", 4 * width, inputs, 1, 1, norm=f"{down}.1")
        inputs = 4 * width
    return state


def detector(is_keypoint=False):
    state = body("backbone.body.")
    for i in range(4):
        inputs = CHANNELS * 2**i
        fpn = "backbone.fpn"
        state.add(f"{fpn}.inner_blocks.{i}.0", CHANNELS, inputs, 1, 1, bias=True)
        state.add(f"{fpn}.layer_blocks.{i}.0", CHANNELS, CHANNELS, 3, 3, bias=True)
    square = (CHANNELS, CHANNELS)
    state.add("rpn.head.conv.0.0", *square, 3, 3, bias=True)
    state.add("rpn.head.cls_logits", 3, CHANNELS, 1, 1, bias=True)
    state.add("rpn.head.bbox_pred", 12, CHANNELS, 1, 1, bias=True)
    heads, hidden = "roi_heads", 4 * CHANNELS
    state.add(f"{heads}.box_head.fc6", hidden, 49 * CHANNELS, bias=True)
    state.add(f"{heads}.box_head.fc7", hidden, hidden, bias=True)
    state.add(f"{heads}.box_predictor.cls_score", CLASSES, hidden, bias=True)
    state.add(f"{heads}.box_predictor.bbox_pred", 4 * CLASSES, hidden, bias=True)
    if is_keypoint:
        width = 2 * CHANNELS
        for i in range(8):
            inputs = width if i else CHANNELS
            state.add(f"{heads}.keypoint_head.{2 * i}", width, inputs, 3, 3, bias=True)
        name = f"{heads}.keypoint_predictor.kps_score_lowres"
        state.add(name, width, KEYPOINTS, 4, 4, bias="transposed")
        return state
    for i in range(4):
        state.add(f"{heads}.mask_head.{i}.0", *square, 3, 3, bias=True)
    predictor = f"{heads}.mask_predictor"
    state.add(f"{predictor}.conv5_mask", *square, 2, 2, bias="transposed")
    state.add(f"{predictor}.mask_fcn_logits", CLASSES, CHANNELS, 1, 1, bias=True)
    return state


def make_model(**options):
    return MaskRCNN(**({"depth": 14, "num_classes": CLASSES, "width": WIDTH} | options))


@pytest.fixture(scope="module")
def model():
    return make_model(non_local={"res4": [0]})


def values(model):
    return {weight.path: to_numpy(weight) for weight in model.weights}


def test_every_weight_has_a_name(model):
    report = load_weights(model, detector())
    assert report.ok and report.source == "torchvision_detection"
    assert report.new_blocks == ("res4_0_nonlocal",)
    matched = {path for path in values(model) if "_nonlocal/" not in path}
    assert set(report.matched) == matched
    assert report.pixels.mean == (123.675, 116.28, 103.53)


def test_every_weight_of_keypoints_has_a_name():
    options = {"num_keypoints": KEYPOINTS, "head_non_local": True}
    model = KeypointRCNN(14, CLASSES, width=WIDTH, **options)
    report = load_weights(model, detector(is_keypoint=True))
    assert report.new_blocks == tuple(
        f"keypoint_conv{i}_nonlocal" for i in (2, 4, 6, 8)
    )


def test_layouts(model):
    state = detector()
    load_weights(model, state)
    loaded = values(model)
    conv = state["backbone.fpn.layer_blocks.1.0.weight"]
    kernel = loaded["fpn_output3/kernel"]
    assert kernel[0, 2, 5, 6] == conv[6, 5, 0, 2]
    deconv = state["roi_heads.mask_predictor.conv5_mask.weight"]  # (I, O, H, W)
    assert loaded["mask_deconv/kernel"][1, 0, 4, 3] == deconv[3, 4, 1, 0]
    dense = state["roi_heads.box_head.fc6.weight"].reshape(-1, CHANNELS, 7, 7)
    kernel = loaded["box_fc6/kernel"].reshape(7, 7, CHANNELS, -1)
    assert kernel[2, 5, 9, 11] == dense[11, 9, 2, 5]
    np.testing.assert_array_equal(
        loaded["box_deltas/kernel"], state["roi_heads.box_predictor.bbox_pred.weight"].T
    )


def test_old_names(model):
    state = detector()
    load_weights(model, state)
    expected = values(model)
    old = {}
    for name, array in state.items():
        name = re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", name)
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        mask = re.search(r"mask_head\.(\d)\.0\.", name)
        if mask:
            name = name.replace(mask[0], f"mask_head.mask_fcn{int(mask[1]) + 1}.")
        old[name] = array
    assert len(old.keys() - state.keys()) == 16 + 2 + 8
    assert load_weights(model, old).ok
    for path, array in values(model).items():
        np.testing.assert_array_equal(array, expected[path], err_msg=path)


def test_epsilon_of_the_first_coco_weights(model):
    """gamma / sqrt(variance + epsilon) is theirs, with our epsilon of 1e-5."""
    state = detector()
    load_weights(model, state, epsilon=0.0)
    variance = state["backbone.body.bn1.running_var"].astype("float64")
    ours = values(model)["conv1_bn/moving_variance"].astype("float64")
    np.testing.assert_allclose(ours + 1e-5, variance, rtol=1e-7)
    load_weights(model, state)
    ours = values(model)["conv1_bn/moving_variance"]
    np.testing.assert_array_equal(ours, state["backbone.body.bn1.running_var"])


def test_other_classes_need_new_heads():
    model = make_model(num_classes=CLASSES + 1)
    with pytest.raises(CheckpointError, match="box_logits"):
        load_weights(model, detector())
    before = values(model)
    report = load_weights(model, detector(), skip_classifier=True)
    layers = {path.split("/")[0] for path in report.new}
    assert layers == {"box_logits", "box_deltas", "mask_logits"}
    for path in report.new:
        np.testing.assert_array_equal(values(model)[path], before[path])


def test_image_networks_fill_the_backbone():
    model = make_model()
    before, state = values(model), body()
    state.add("fc", 1000, 32 * WIDTH, bias=True)
    report = load_weights(model, state)
    assert report.source == "torchvision" and report.ok
    assert {path.split("_")[0] for path in report.new} == {"fpn", "rpn", "box", "mask"}
    loaded = values(model)
    for path in report.new:
        np.testing.assert_array_equal(loaded[path], before[path], err_msg=path)
    conv = state["layer3.0.conv2.weight"]
    np.testing.assert_array_equal(
        loaded["res4_0_branch2b/kernel"], conv.transpose(2, 3, 1, 0)
    )


def test_strides_of_another_convention_are_refused():
    """No weight shows that Detectron's ResNet strides in the first 1x1."""
    with pytest.raises(CheckpointError, match="stride"):
        load_weights(make_model(convention="detectron"), detector())


def test_missing_and_unexpected(model):
    state = dict(detector())
    del state["rpn.head.cls_logits.bias"]
    state["roi_heads.mask_head.4.0.weight"] = np.zeros((1, 1, 3, 3), "float32")
    with pytest.raises(CheckpointError) as error:
        load_weights(model, state)
    assert error.value.report.missing == ("rpn_logits/bias",)
    assert error.value.report.unexpected == ("roi_heads.mask_head.4.0.weight",)


def test_files_of_ours(tmp_path, model):
    """Weights of one of our detectors load into another, blocks added or not."""
    load_weights(model, detector())
    model.save(tmp_path / "model.keras")
    other = make_model(non_local={"res3": [0], "res4": [0]})
    for source in (tmp_path / "model.keras", model):
        for weight in other.weights:
            weight.assign(keras.ops.zeros_like(weight))
        report = load_weights(other, source)
        assert report.source == "keras_nonlocal"
        assert report.new_blocks == ("res3_0_nonlocal",)
        assert set(report.matched) == set(values(model))
        for path, array in values(model).items():
            np.testing.assert_array_equal(values(other)[path], array, err_msg=path)
