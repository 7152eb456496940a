"""Batches: their content, and that they depend on seed and number alone."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_nonlocal.models import DETECTION_CONVENTIONS
from tests.trainers.detection.coco_files import annotation, coco, write_folder
from trainers.core.errors import DataError, UserError
from trainers.core.failures import FailureLog, TooManyBroken
from trainers.detection.data import load_index, make_dataset, objects
from trainers.detection.data.configs import DataConfig
from trainers.detection.data.samples import scaled_size
from trainers.detection.data.sampling import ImageOrder

TORCHVISION = DETECTION_CONVENTIONS["torchvision"]
POINTS = ["nose", "left_eye", "right_eye"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven images, each with as many objects as its id says; two of them upright."""
    folder = tmp_path_factory.mktemp("images")
    rows, number = [], 0
    for image in range(1, 8):
        for i in range(image):
            number += 1
            box = [4.0 * i, 3.0 + image, 12.0, 9.5]
            points = [4 * i + 1, 5, 2, 4 * i + 5, 6.5, 1, 0, 0, 0]
            more = {"category": 1 + i % 2, "keypoints": points}
            rows.append(annotation(number, image, box, **more))
    content = coco(rows, 7)
    content["categories"] = [
        {"id": n, "name": name, "keypoints": POINTS}
        for n, name in enumerate(("cat", "dog"), 1)
    ]
    for image in content["images"][:2]:
        image |= {"height": 60, "width": 40}
    write_folder(folder, content)
    return folder


def settings(folder, **changes):
    defaults = {
        "input_path": str(folder),
        "is_training": True,
        "global_batch_size": 2,
        "min_size": [64],
        "max_size": 90,
        "num_parallel_decodes": 2,
    }
    return DataConfig(**(defaults | changes))


def batches(data, count=None, target="boxes", **options):
    options.setdefault("convention", TORCHVISION)
    index = load_index(data)
    dataset = make_dataset(index, data, target=target, **options)
    if count is not None:
        dataset = dataset.take(count)
    return list(dataset.as_numpy_iterator())


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


# === Content ===


def pixels_of(folder, number):
    return np.asarray(Image.open(folder / f"{number}.png"))


def test_images_are_resized_normalised_and_padded_as_torchvision_does(folder):
    data = settings(folder, global_batch_size=7, horizontal_flip=False)
    (batch,) = batches(data, 1, target="masks")
    height, width = batch["images"].shape[1:3]
    assert height % 32 == width % 32 == 0
    numbers = (batch["classes"] > 0).sum(1)  # the id of each image
    assert sorted(numbers) == list(range(1, 8))
    for row, number in enumerate(numbers):
        pixels = pixels_of(folder, number)
        h, w = batch["sizes"][row]
        assert (h, w) == scaled_size(*pixels.shape[:2], 64, 90)
        plain = (pixels - np.float32(TORCHVISION.mean)) / np.float32(TORCHVISION.std)
        expected = tf.image.resize(plain, (h, w))
        np.testing.assert_allclose(batch["images"][row, :h, :w], expected, atol=3e-6)
        for name in ("images", "masks"):
            padded = np.moveaxis(batch[name][row], 0, -1) if name == "masks" else None
            padded = batch[name][row] if padded is None else padded
            assert not padded[h:].any() and not padded[:, w:].any()
        ratio = [w / pixels.shape[1], h / pixels.shape[0]] * 2
        first = np.array([0, 3 + number, 12, 12.5 + number]) * ratio
        np.testing.assert_allclose(batch["boxes"][row, 0], first, rtol=1e-6)
        assert not batch["boxes"][row, number:].any()
        mask = batch["masks"][row, 0, :h, :w]
        ys = (np.arange(h) * np.float32(pixels.shape[0] / h)).astype(int)
        rows = (ys >= 3 + number) & (ys < np.floor(12.5 + number + 0.5))
        np.testing.assert_array_equal(mask[:, 1] > 0, rows)
    np.testing.assert_array_equal(batch["weight"], np.ones(7))


def test_sizes_are_those_of_torchvision():
    assert scaled_size(480, 640, 800, 1333) == (800, 1066)
    assert scaled_size(97, 97, 800, 1333) == (799, 799)
    assert scaled_size(640, 480, 800, 1333) == (1066, 800)
    assert scaled_size(300, 1000, 800, 1333) == (399, 1333)
    assert scaled_size(1, 1000, 800, 1333) == (1, 1333)


def test_pixels_of_another_convention(folder):
    data = settings(folder, is_training=False, global_batch_size=1)
    convention = DETECTION_CONVENTIONS["detectron"]
    batch, *_ = batches(data, 1, convention=convention)
    h, w = batch["sizes"][0]
    expected = tf.image.resize(pixels_of(folder, 1), (h, w))[..., ::-1]
    expected = expected - np.float32(convention.mean)
    np.testing.assert_allclose(batch["images"][0, :h, :w], expected, atol=1e-4)


def test_mirrored_images_have_mirrored_objects(folder):
    plain = settings(folder, horizontal_flip=False)
    mirrored = settings(folder)
    for target in ("masks", "keypoints"):
        found = 0
        for one, other in zip(
            batches(plain, 8, target=target),
            batches(mirrored, 8, target=target),
            strict=True,
        ):
            for row, (h, w) in enumerate(one["sizes"]):
                image, other_image = one["images"][row], other["images"][row]
                if (image == other_image).all():
                    continue
                found += 1
                flipped = image[:h, :w][:, ::-1]
                np.testing.assert_allclose(other_image[:h, :w], flipped, atol=1e-4)
                real = one["classes"][row] > 0
                x1, y1, x2, y2 = one["boxes"][row][real].T
                expected = np.stack([w - x2, y1, w - x1, y2], axis=-1)
                got = other["boxes"][row][real]
                np.testing.assert_allclose(got, expected, atol=1e-4)
                if target == "keypoints":
                    points = one["keypoints"][row][real][:, [0, 2, 1]]
                    seen = points[..., 2] > 0
                    points[..., 0] = np.where(seen, w - points[..., 0], 0)
                    got = other["keypoints"][row][real]
                    np.testing.assert_allclose(got, points, atol=1e-4)
                else:
                    check_mask_in_box(other["masks"][row][real], got)
        assert 3 < found < 13


def check_mask_in_box(masks, boxes):
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        ys, xs = np.nonzero(mask)
        edges = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        np.testing.assert_allclose(edges, [x1, y1, x2, y2], atol=2.5)


def test_the_pairs_of_keypoints_can_be_given(folder):
    assert objects.flip_pairs_of(POINTS) == [1, 2]
    with pytest.raises(DataError, match="not from 0 to 2: .3"):
        batches(settings(folder, keypoint_flip_pairs=[0, 3]), 1, target="keypoints")


def test_the_short_side_is_one_of_several(folder):
    data = settings(folder, min_size=[32, 48, 64])
    sides = {size.min() for b in batches(data, 12) for size in b["sizes"]}
    assert {32, 48} < sides <= {32, 48, 60}  # 60 where the long side has 90
    data = settings(folder, is_training=False, min_size=[32, 48])
    assert {size.min() for b in batches(data, 2) for size in b["sizes"]} == {48}


# === Which images and objects ===


def test_an_epoch_has_every_image_once(folder):
    data = settings(folder, global_batch_size=7)
    epochs = [(b["classes"] > 0).sum(1).tolist() for b in batches(data, 3)]
    assert all(sorted(epoch) == list(range(1, 8)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_images_without_objects_are_left_out_of_training_alone(tmp_path):
    rows = [annotation(1, 1), annotation(2, 3, [5, 5, 1, 20])]  # 1 pixel wide
    write_folder(tmp_path, coco(rows, 3))
    data = settings(tmp_path, global_batch_size=1)
    assert {tuple(b["classes"][0]) for b in batches(data, 4)} == {(1,)}
    data = settings(tmp_path, global_batch_size=3, skip_empty_images=False)
    (batch,) = batches(data, 1, target="masks")
    assert sorted(batch["classes"].ravel()) == [0, 1, 1]
    data = settings(tmp_path, is_training=False)
    assert [b["image_id"].tolist() for b in batches(data)] == [[1, 2], [3, -1]]


def test_a_batch_without_any_object_has_room_for_one(tmp_path):
    write_folder(tmp_path, coco([], 2))
    data = settings(tmp_path, skip_empty_images=False)
    (batch,) = batches(data, 1, target="masks")
    assert batch["boxes"].shape == (2, 1, 4) and not batch["classes"].any()
    assert batch["masks"].shape == (2, 1, *batch["images"].shape[1:3])
    with pytest.raises(DataError, match="none of the 2 images has an object"):
        batches(settings(tmp_path), 1)


def test_crowds_are_left_out_or_marked(tmp_path):
    crowd = {"size": [40, 60], "counts": [0, 2400]}
    rows = [annotation(1), annotation(2, iscrowd=1, segmentation=crowd)]
    write_folder(tmp_path, coco(rows))
    data = settings(tmp_path, global_batch_size=1)
    (batch,) = batches(data, 1, target="masks")
    assert batch["is_crowd"].tolist() == [[False]]
    data.skip_crowd_during_training = False
    (batch,) = batches(data, 1, target="masks")
    assert batch["is_crowd"].tolist() == [[False, True]]
    h, w = batch["sizes"][0]
    assert batch["masks"][0, 1, :h, :w].all()


def test_objects_beyond_the_limit_are_left_out(folder):
    data = settings(folder, global_batch_size=7, max_instances=3)
    (batch,) = batches(data, 1)
    assert batch["boxes"].shape == (7, 3, 4)


def test_images_with_few_keypoints_are_left_out(folder):
    data = settings(folder, min_keypoints=8)  # two of each object are labelled
    counts = {
        n for b in batches(data, 6, "keypoints") for n in (b["classes"] > 0).sum(1)
    }
    assert counts == {4, 5, 6, 7}
    assert len({n for b in batches(data, 9) for n in (b["classes"] > 0).sum(1)}) == 7


def test_keypoints_need_names(tmp_path):
    write_folder(tmp_path, coco([annotation(1)]))
    with pytest.raises(DataError, match="no category has keypoints"):
        batches(settings(tmp_path), 1, target="keypoints")


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_grouped_batches_have_one_orientation(size):
    groups = [0] * 13 + [1] * 10
    order = ImageOrder(5, range(100, 123), groups, size)
    samples = [order.image(n) for n in range(5 * 23)]
    for epoch in range(5):
        assert sorted(samples[epoch * 23 : epoch * 23 + 23]) == list(range(100, 123))
    rows = np.array(samples[: len(samples) // size * size]).reshape(-1, size) >= 113
    mixed = (rows != rows[:, :1]).any(1).sum()
    assert mixed <= 5 * 2 if size > 1 else mixed == 0
    assert samples[:23] != samples[23:46]


def test_grouping_is_a_setting(folder):
    data = settings(folder, aspect_ratio_grouping=True)
    found = batches(data, 7)
    wide = np.array([b["sizes"][:, 1] > b["sizes"][:, 0] for b in found])
    assert (wide[:, 0] != wide[:, 1]).sum() <= 3


# === A function of seed and number ===


def test_training_resumes_at_any_batch(folder):
    data = settings(folder, min_size=[32, 48, 64])
    whole = batches(data, 6, target="masks", seed=3)
    assert_equal(batches(data, 3, target="masks", seed=3, start_batch=3), whole[3:])
    other = batches(data, 6, target="masks", seed=4)
    assert any(
        (a["sizes"] != b["sizes"]).any() for a, b in zip(whole, other, strict=True)
    )


def test_replicas_share_the_batches_of_one(folder):
    data = settings(folder, global_batch_size=4)
    whole = batches(data, 3, seed=1)
    for pipeline in range(2):
        context = tf.distribute.InputContext(2, pipeline, 4)
        parts = batches(data, 6, seed=1, input_context=context)
        for i, part in enumerate(parts):
            row = 2 * pipeline + i % 2
            expected = whole[i // 2]
            np.testing.assert_array_equal(part["sizes"][0], expected["sizes"][row])
            h, w = part["sizes"][0]
            image = expected["images"][row, :h, :w]
            np.testing.assert_array_equal(part["images"][0, :h, :w], image)


def test_evaluation_has_every_image_once_and_is_filled_up(folder):
    data = settings(folder, is_training=False, global_batch_size=4)
    found = batches(data)
    ids = np.concatenate([b["image_id"] for b in found])
    weights = np.concatenate([b["weight"] for b in found])
    assert ids.tolist() == [1, 2, 3, 4, 5, 6, 7, -1]
    assert weights.tolist() == [1] * 7 + [0]
    sizes = np.concatenate([b["original_sizes"] for b in found])
    assert sizes[:3].tolist() == [[60, 40], [60, 40], [40, 60]]
    assert_equal(batches(data, start_batch=1), found[1:])
    parts = [
        batches(data, input_context=tf.distribute.InputContext(2, n, 4))
        for n in range(2)
    ]
    assert len(parts[0]) == len(parts[1])
    ids = [i for part in parts for b in part for i in b["image_id"] if b["weight"][0]]
    assert sorted(ids) == list(range(1, 8))


# === Broken images ===


def test_a_broken_image_is_replaced_named_and_counted(tmp_path):
    write_folder(tmp_path, coco([annotation(n, n) for n in range(1, 5)], 4))
    path = tmp_path / "2.png"
    path.write_bytes(path.read_bytes()[:500])
    data = settings(tmp_path, max_broken_fraction=0.5)
    failures = FailureLog(0.5, "image")
    found = batches(data, 8, failures=failures)
    assert list(failures.failures) == [str(path)]
    assert_equal(batches(data, 8), found)
    data.is_training = False
    first, second = batches(data)
    assert first["image_id"].tolist() == [1, -1]
    assert first["weight"].tolist() == [1, 0]
    assert second["weight"].tolist() == [1, 1]


def test_too_many_broken_images_end_the_run(tmp_path):
    write_folder(tmp_path, coco([annotation(n, n) for n in range(1, 5)], 4))
    for number in range(1, 5):
        (tmp_path / f"{number}.png").write_text("no image")
    failures = FailureLog(0.5, "image")
    with pytest.raises(tf.errors.OpError):
        batches(settings(tmp_path), 8, failures=failures)
    assert isinstance(failures.error, TooManyBroken)
    assert "images read so far could not be decoded" in str(failures.error)
    assert "1.png: cannot be decoded" in str(failures.error)


def test_an_image_of_another_size_than_annotated_is_broken(tmp_path):
    content = coco([annotation(n, n) for n in range(1, 3)], 2)
    write_folder(tmp_path, content)
    content["images"][0]["height"] = 41
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    failures = FailureLog(0.9, "image")
    batches(settings(tmp_path, is_training=False), failures=failures)
    (reason,) = failures.failures.values()
    assert "is 60 x 40 pixels (width x height), but its annotations" in reason


# === Settings ===


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_size": []}, "at least one length"),
        ({"min_size": [0]}, "`min_size` must be at least 1"),
        ({"min_size": [99]}, r"`max_size` \(90\) must be at least as large"),
        ({"labels": "ids"}, "labels is 'ids'"),
        ({"global_batch_size": 0}, "`global_batch_size` must be at least 1"),
        ({"max_instances": 0}, "`max_instances` must be at least 1"),
        ({"keypoint_flip_pairs": [1]}, "pair after pair"),
        ({"keypoint_flip_pairs": [1, 1]}, "must be different numbers"),
        ({"max_broken_fraction": 2.0}, "from 0 to 1"),
        ({"min_keypoints": -1}, "`min_keypoints` must not be negative"),
        ({"enable_tf_data_service": True}, "Leave it out"),
    ],
)
def test_settings_of_which_no_batch_can_be_made_are_errors(folder, changes, message):
    with pytest.raises(UserError, match=message):
        batches(settings(folder, **changes), 1)
