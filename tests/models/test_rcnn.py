"""Mask R-CNN and Keypoint R-CNN as Keras models; `tests/parity` has their numbers."""

import keras
import numpy as np
import pytest

from keras_nonlocal import KeypointRCNN, MaskRCNN
from tests.backends import to_numpy

if keras.config.backend() != "tensorflow":
    pytest.skip("detection runs on TensorFlow", allow_module_level=True)

import tensorflow as tf

SMALL = {"depth": 14, "width": 8, "min_size": 64, "max_size": 128}
# An untrained network detects something, and keypoints are slow one by one.
OPTIONS = {
    MaskRCNN: {"num_classes": 3, "score_threshold": 0.0},
    KeypointRCNN: {"num_keypoints": 3, "score_threshold": 0.0, "max_detections": 5},
}


def make_model(builder=MaskRCNN, **options):
    """A small network whose weights are drawn by name: equal for all options."""
    model = builder(**(SMALL | OPTIONS[builder] | options))
    for weight in model.weights:
        rng = np.random.default_rng([len(weight.path), *weight.path.encode()])
        if weight.path.endswith(("kernel", "bias")) and "nonlocal" not in weight.path:
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return model


def make_image(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), "uint8")


@pytest.fixture(scope="module")
def mask_rcnn():
    return make_model()


@pytest.fixture(scope="module")
def keypoint_rcnn():
    return make_model(KeypointRCNN)


@pytest.fixture
def eagerly():
    """Tracing takes many times as long as detecting."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def assert_equal(results, others):
    for found, other in zip(results, others, strict=True):
        assert found.keys() == other.keys()
        for key, array in found.items():
            np.testing.assert_array_equal(array, other[key], err_msg=key)


# === detect ===


def test_images_of_any_sizes_give_what_each_gives_alone(mask_rcnn):
    images = [make_image(48, 70), make_image(130, 40), make_image(1, 1)]
    results = mask_rcnn.detect(images)
    assert_equal(results, [mask_rcnn.detect([image])[0] for image in images])
    for image, found in zip(images, results, strict=True):
        height, width, _ = image.shape
        count = len(found["scores"])
        assert 0 < count <= 100
        assert found["boxes"].shape == (count, 4) and found["labels"].shape == (count,)
        assert found["masks"].shape == (count, height, width)
        assert found["masks"].dtype == bool and found["boxes"].dtype == np.float32
        limits = np.float32([width, height, width, height]) + 1e-3
        assert (found["boxes"] >= 0).all() and (found["boxes"] <= limits).all()
        assert set(found["labels"]) <= {1, 2}
        assert (np.diff(found["scores"]) <= 0).all()


def test_keypoints_are_within_their_boxes(keypoint_rcnn, eagerly):
    [found] = keypoint_rcnn.detect([make_image(48, 70)])
    points, boxes = found["keypoints"], found["boxes"][:, None]
    assert points.shape == (len(boxes), 3, 3)
    assert found["keypoint_scores"].shape == (len(boxes), 3)
    np.testing.assert_array_equal(points[..., 2], 1)
    one = 70 / 96 + 1e-3  # a pixel of the resized image: sides have one at least
    assert (points[..., :2] >= boxes[..., :2] - 1e-3).all()
    assert (points[..., :2] <= boxes[..., 2:] + one).all()


def test_a_batch_is_padded(mask_rcnn):
    """Zeros beside an image add no detections there."""
    images = [make_image(48, 70), make_image(70, 48)]
    for found, image in zip(mask_rcnn.detect(images, 2), images, strict=True):
        assert (found["boxes"][:, 2] <= image.shape[1] + 1e-3).all()
        assert (found["boxes"][:, 3] <= image.shape[0] + 1e-3).all()


def test_detections_are_those_of_the_call(mask_rcnn):
    """Compiled or not, from the steps or at once."""
    images, sizes = mask_rcnn.batch([mask_rcnn.preprocess(make_image(64, 96))])
    features = mask_rcnn.extract_features(images)
    logits, deltas = mask_rcnn.predict_rpn(features)
    boxes, valid = mask_rcnn.propose(logits, deltas, sizes, images.shape[1:3])
    outputs = mask_rcnn.predict_boxes(features, boxes)
    steps = mask_rcnn.postprocess(*outputs, boxes, valid, sizes)
    at_once, compiled = mask_rcnn(images, sizes), mask_rcnn.detect([make_image(64, 96)])
    count = to_numpy(steps["num_detections"])[0]
    for key in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(to_numpy(steps[key]), to_numpy(at_once[key]))
        expected = to_numpy(steps[key])[0, :count]
        np.testing.assert_allclose(compiled[0][key], expected, atol=1e-3)
    masks = to_numpy(at_once["masks"])
    assert masks.shape == (1, 100, 28, 28)
    assert masks[0, :count].min() > 0 and not masks[0, count:].any()


def test_no_detections(eagerly):
    for builder, key in ((MaskRCNN, "masks"), (KeypointRCNN, "keypoints")):
        model = make_model(builder, score_threshold=1.0)
        [found] = model.detect([make_image(48, 70)])
        assert found["boxes"].shape == (0, 4)
        assert found[key].shape in ((0, 48, 70), (0, 3, 3))


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], ValueError, "at least one image"),
        (make_image(8, 8), ValueError, r"use detect\(\[image\]\)"),
        ([make_image(8, 8), make_image(8, 8)[..., 0]], ValueError, r"images\[1\] has"),
        ([np.zeros((8, 8, 4), "uint8")], ValueError, r"shape \(8, 8, 4\)"),
        ([np.zeros((0, 8, 3), "uint8")], ValueError, r"shape \(0, 8, 3\)"),
        ([make_image(8, 8) / 255], TypeError, r"images\[0\] is float64"),
    ],
)
def test_wrong_images(mask_rcnn, images, error, message):
    with pytest.raises(error, match=message):
        mask_rcnn.detect(images)


# === Images ===


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1066)),  # rounded down
        ((97, 97), (799, 799)),
        ((640, 480), (1066, 800)),
        ((500, 2000), (333, 1333)),
        ((1, 1), (800, 800)),
        ((1, 3000), (1, 1333)),
    ],
)
def test_resized_sizes(mask_rcnn, monkeypatch, size, expected):
    monkeypatch.setattr(mask_rcnn, "min_size", 800)
    monkeypatch.setattr(mask_rcnn, "max_size", 1333)
    assert mask_rcnn.preprocess(make_image(*size)).shape == (*expected, 3)


def test_normalised_colours(mask_rcnn):
    image = np.full((64, 64, 3), (10, 20, 30), "uint8")
    rgb = to_numpy(mask_rcnn.preprocess(image))[5, 5]
    expected = (np.array([10, 20, 30]) / 255 - (0.485, 0.456, 0.406)) / 0.225
    np.testing.assert_allclose(rgb, expected, atol=0.05)
    bgr = to_numpy(make_model(convention="detectron").preprocess(image))[5, 5]
    np.testing.assert_allclose(bgr, [30 - 102.9801, 20 - 115.9465, 10 - 122.7717])


def test_anchors_match_the_maps(mask_rcnn):
    """800 pixels: the last levels have 25 and 13 positions."""
    model, shape = mask_rcnn, (800, 64)
    features = model.extract_features(np.zeros((1, *shape, 3), "float32"))
    logits, deltas = model.predict_rpn(features)
    anchors, counts = model.anchors(shape)
    assert anchors.shape == deltas.shape[1:] and logits.shape[1] == sum(counts)
    assert counts == [3 * x.shape[1] * x.shape[2] for x in features]


def test_training_has_more_proposals(mask_rcnn):
    images = np.random.default_rng(0).normal(size=(2, 128, 128, 3)).astype("float32")
    outputs = mask_rcnn.predict_rpn(mask_rcnn.extract_features(images))
    sizes = np.array([[128, 128], [100, 60]])
    boxes, valid = mask_rcnn.propose(*outputs, sizes, (128, 128), training=True)
    assert boxes.shape == (2, 2000, 4)
    for own, count, (height, width) in zip(boxes, valid, sizes, strict=True):
        own = to_numpy(own)[: int(count)]
        assert 100 < len(own) and (own >= 0).all()
        assert (own <= [width, height, width, height]).all()


# === Non-local blocks ===


def test_new_blocks_change_no_bit(mask_rcnn, keypoint_rcnn, eagerly):
    images = [make_image(48, 70)]
    with_block = make_model(non_local={"res4": [0]})
    assert len(with_block.weights) > len(mask_rcnn.weights)
    assert_equal(with_block.detect(images), mask_rcnn.detect(images))
    with_blocks = make_model(
        KeypointRCNN,
        non_local={"res4": [0]},
        head_non_local=True,
        non_local_options={"mode": "dot_product", "res4": {"sub_sample": False}},
    )
    blocks = [x for x in with_blocks.keypoint_head.layers if "nonlocal" in x.name]
    assert [x.name for x in blocks] == [
        f"keypoint_conv{i}_nonlocal" for i in (2, 4, 6, 8)
    ]
    assert {(x.mode, x.sub_sample) for x in blocks} == {("dot_product", True)}
    assert_equal(with_blocks.detect(images), keypoint_rcnn.detect(images))


# === Saving ===


@pytest.mark.parametrize(
    ("builder", "options"),
    [
        (MaskRCNN, {"convention": "torchvision_v2", "non_local": {"res4": [0]}}),
        (KeypointRCNN, {"head_non_local": True, "min_size": 96}),
    ],
)
def test_keras_files(tmp_path, builder, options, eagerly):
    model = make_model(builder, **options)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    images = [make_image(48, 70)]
    assert_equal(loaded.detect(images), model.detect(images))


@pytest.mark.parametrize(
    "builder", [MaskRCNN, pytest.param(KeypointRCNN, marks=pytest.mark.slow)]
)
def test_checkpoints_have_every_weight(tmp_path, builder):
    options = {"non_local": {"res4": [0]}, "convention": "torchvision_v2"}
    model = make_model(builder, **options)
    for i, weight in enumerate(model.weights):
        weight.assign(np.full(weight.shape, i % 7 + 1.0))
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    other = make_model(builder, **options)
    tf.train.Checkpoint(model=other).read(path).assert_consumed()
    for i, weight in enumerate(other.weights):
        np.testing.assert_array_equal(to_numpy(weight), i % 7 + 1, err_msg=weight.path)


def test_names_are_unique(mask_rcnn, keypoint_rcnn):
    for model in (mask_rcnn, keypoint_rcnn):
        paths = [weight.path for weight in model.weights]
        assert len(set(paths)) == len(paths)


# === Arguments ===


def test_mixed_precision_keeps_boxes_in_float32(eagerly):
    model = make_model(dtype="mixed_bfloat16")
    assert keras.config.dtype_policy().name == "float32"
    assert model.backbone.outputs[0].dtype == "bfloat16"
    [found] = model.detect([make_image(48, 70)])
    assert found["boxes"].dtype == found["scores"].dtype == np.float32
    assert len(found["boxes"]) and np.isfinite(found["boxes"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convention": "torchvison"}, "Did you mean 'torchvision'"),
        ({"num_classes": 0}, "`num_classes` of MaskRCNN"),
        ({"min_size": 0.5}, "`min_size` of MaskRCNN"),
        ({"anchor_sizes": (32, 64)}, "`anchor_sizes` of MaskRCNN"),
        ({"nms_threshold": 2}, "`nms_threshold` of MaskRCNN"),
        ({"depth": 18}, "`depth`"),
        ({"non_local": 3}, "`non_local`"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        MaskRCNN(**(SMALL | options))
