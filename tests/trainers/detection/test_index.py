"""COCO's JSON as an index: what is accepted, what is counted and what is an error."""

import json

import numpy as np
import pytest
from pycocotools import mask

from tests.trainers.detection.coco_files import annotation, coco, write_folder
from trainers.core.errors import DataError
from trainers.core.files import FileError
from trainers.detection.data import load_index
from trainers.detection.data.configs import DataConfig
from trainers.detection.data.objects import decode_mask, read_objects

COCO_IDS = sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})


def read(folder, class_names=None, **settings):
    return load_index(DataConfig(input_path=str(folder), **settings), class_names)


def test_a_folder_of_images_with_one_json_file_is_a_data_set(tmp_path):
    write_folder(tmp_path, coco([annotation(7, bbox=[1.5, 2, 3, 4.25])], 2))
    index = read(tmp_path)
    assert [image.path for image in index.images] == [
        str(tmp_path / "1.png"),
        str(tmp_path / "2.png"),
    ]
    (found,) = index.images[0].annotations
    assert found.bbox == (1.5, 2, 3, 4.25)
    assert index.images[1].annotations == ()
    assert index.class_names == ("background", "cat", "dog")


def test_categories_are_numbered_from_1_in_the_order_of_their_ids(tmp_path):
    content = coco([annotation(1, category=70)])
    content["categories"] = [{"id": 70, "name": "b"}, {"id": 5, "name": "a"}]
    write_folder(tmp_path, content)
    index = read(tmp_path)
    assert index.class_names == ("background", "a", "b")
    assert index.category_ids == (None, 5, 70)
    assert read_objects(index.images[0], index.labels, "boxes").classes == [2]


def test_labels_of_cocos_80_categories_are_their_ids(tmp_path):
    content = coco([annotation(1, category=90)])
    content["categories"] = [{"id": i, "name": f"c{i}"} for i in COCO_IDS]
    write_folder(tmp_path, content)
    index = read(tmp_path)
    assert index.num_classes == 91
    assert index.labels == {i: i for i in COCO_IDS}
    assert index.class_names[11:14] == ("c11", "N/A 12", "c13")
    assert read(tmp_path, labels="contiguous").num_classes == 81


def test_labels_can_be_the_ids_of_any_categories(tmp_path):
    content = coco([annotation(1, category=4)])
    content["categories"] = [{"id": 4, "name": "a"}, {"id": 2, "name": "b"}]
    write_folder(tmp_path, content)
    index = read(tmp_path, labels="category_ids")
    assert index.class_names == ("background", "N/A 1", "b", "N/A 3", "a")


def test_labels_are_those_of_the_trained_classes(tmp_path):
    write_folder(tmp_path, coco([annotation(1, category=1)]))
    index = read(tmp_path, ("background", "horse", "dog", "cat"))
    assert index.category_ids == (None, None, 2, 1)
    with pytest.raises(DataError, match="not trained for .*added: dog"):
        read(tmp_path, ("background", "cat"))


def test_polygons_and_both_kinds_of_rle_give_the_same_mask(tmp_path):
    bitmap = np.zeros((40, 60), np.uint8, order="F")
    bitmap[5:20, 10:30] = 1
    flat = bitmap.ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *ends, flat.size]).tolist()
    compressed = mask.encode(bitmap)["counts"].decode()
    segmentations = (
        [[10, 5, 30, 5, 30, 20, 10, 20]],
        {"size": [40, 60], "counts": counts},
        {"size": [40, 60], "counts": compressed},
    )
    rows = [annotation(n, segmentation=s) for n, s in enumerate(segmentations, 1)]
    write_folder(tmp_path, coco(rows))
    (image,) = read(tmp_path).images
    for found in image.annotations:
        got = decode_mask(found.segmentation, (40, 60))
        np.testing.assert_array_equal(got, bitmap)


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        [[1, 2, 3, 4]],  # pycocotools would take it for a box
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, "4", 5, 6]],
        [[0, 0, 1e9, 0, 0, 1e9]],  # memory for its length
        [[0, 0, float("nan"), 0, 0, 5]],
        {"size": [40, 60], "counts": [5]},
        {"size": [60, 40], "counts": [2400]},
        {"size": [40, 60], "counts": [-1, 2401]},
        {"size": [40, 60], "counts": "zzzzz"},  # pycocotools would crash
        {"counts": [2400]},
        "polygon",
    ],
)
def test_objects_without_a_valid_mask_are_counted_and_left_out(
    tmp_path, capsys, segmentation
):
    rows = [annotation(1), annotation(2, segmentation=segmentation)]
    write_folder(tmp_path, coco(rows))
    (image,) = (index := read(tmp_path)).images
    assert "1 of the 2 objects have no valid mask" in capsys.readouterr().err
    assert len(read_objects(image, index.labels, "masks").masks) == 1
    assert len(read_objects(image, index.labels, "boxes").boxes) == 2


def test_boxes_are_clipped_or_dropped_as_torchvision_does(tmp_path, capsys):
    boxes = [[-5, -5, 20, 20], [50, 30, 40, 40], [5, 5, 0, 9], [70, 5, 9, 9]]
    boxes += [[5, 5, -3, 9], [0, 0, 60.5, 40.5]]
    rows = [annotation(n, bbox=box) for n, box in enumerate(boxes, 1)]
    write_folder(tmp_path, coco(rows))
    (image,) = (index := read(tmp_path)).images
    found = read_objects(image, index.labels, "boxes")
    expected = [[0, 0, 15, 15], [50, 30, 60, 40], [0, 0, 60, 40]]
    np.testing.assert_array_equal(found.boxes, expected)
    warnings = capsys.readouterr().err
    assert "2 of the 6 boxes reach out of their image" in warnings
    assert "3 of the 6 boxes have no area" in warnings


def test_boxes_of_the_largest_numbers_are_dropped_without_a_warning(tmp_path, capsys):
    rows = [annotation(1), annotation(2, bbox=[1e308] * 4, segmentation=[])]
    write_folder(tmp_path, coco(rows))
    (image,) = (index := read(tmp_path)).images
    assert len(read_objects(image, index.labels, "boxes").boxes) == 1
    assert "1 of the 2 boxes have no area" in capsys.readouterr().err


def test_missing_images_are_named_counted_and_left_out(tmp_path, capsys):
    write_folder(tmp_path, coco([annotation(1)], 3))
    (tmp_path / "2.png").unlink()
    index = read(tmp_path)
    assert [image.id for image in index.images] == [1, 3]
    assert index.missing == (str(tmp_path / "2.png"),)
    message = capsys.readouterr().err
    assert "1 of the 3 images listed do not exist" in message and "2.png" in message
    for number in (1, 3):
        (tmp_path / f"{number}.png").unlink()
    with pytest.raises(DataError, match="none of its 3 images exists in .*1.png"):
        read(tmp_path)


def changed(kind, **values):
    """A data set of one image and one object, with other values of an entry."""
    content = coco([annotation(1)])
    for key, value in values.items():
        if value is None:
            del content[kind][0][key]
        else:
            content[kind][0][key] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "not in COCO's format"),
        ({"images": [], "annotations": []}, "not in COCO's format"),
        ({**coco([]), "annotations": {}}, "`annotations` must be a list"),
        ({**coco([]), "images": [3]}, r"images\[0\] must be an object"),
        ({**coco([]), "images": []}, "`images` is empty"),
        ({**coco([]), "categories": []}, "`categories` is empty"),
        (coco([annotation(1), annotation(1)]), "1 annotation ids are not unique: 1"),
        (coco([], categories=("cat", "cat")), "have the same name: cat"),
        (changed("images", id=None), r"images\[0\]: `id` must be an integer"),
        (changed("images", id="1"), r"images\[0\]: `id` .* Received: '1'"),
        (changed("images", file_name=None), "image 1: `file_name` .* It is absent"),
        (changed("images", height=None), "image 1: `height` .* It is absent"),
        (changed("images", width=0), "image 1: `width` must be a positive"),
        (changed("images", width=6.5), "image 1: `width` .*6.5"),
        (changed("annotations", bbox=None), "annotation 1: `bbox` .* It is absent"),
        (changed("annotations", bbox=[1, 2, 3]), "annotation 1: `bbox` must be four"),
        (changed("annotations", bbox=[1, 2, 3, float("nan")]), "`bbox` .*nan"),
        (changed("annotations", image_id=9), "`image_id` .* Received: 9"),
        (changed("annotations", category_id=9), "`category_id` .* Received: 9"),
        (changed("annotations", area="large"), "`area` must be a number"),
        (changed("annotations", iscrowd="no"), "`iscrowd` must be 0 or 1"),
        (changed("categories", name=""), "category 1: `name`"),
        (changed("categories", keypoints="nose"), "`keypoints` must be a list"),
        (
            changed("categories", keypoints=["a"], skeleton=[[1, 2]]),
            "`skeleton` must be pairs of numbers from 1 to 1",
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, content, message):
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"annotations.json: .*{message}"):
        read(tmp_path)


def test_wrong_numbers_of_keypoints_are_named(tmp_path):
    content = coco([annotation(1, keypoints=[1, 2, 2])])
    content["categories"][0]["keypoints"] = ["a", "b"]
    write_folder(tmp_path, content)
    with pytest.raises(DataError, match="annotation 1: `keypoints` must be 6 numbers"):
        read(tmp_path)


def test_files_that_are_no_json_or_absent_are_named(tmp_path):
    path = tmp_path / "annotations.json"
    with pytest.raises(DataError, match="has none. Set `annotation_file`"):
        read(tmp_path)
    path.write_text('{"images": [')
    with pytest.raises(FileError, match="annotations.json: is not JSON"):
        read(tmp_path)
    (tmp_path / "more.json").write_text("{}")
    with pytest.raises(DataError, match="several: annotations.json, more.json"):
        read(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "absent")
    with pytest.raises(DataError, match="`input_path` must name"):
        read("")
    with pytest.raises(FileError, match="absent.json"):
        read(tmp_path, annotation_file=str(tmp_path / "absent.json"))


GARBAGE = (None, True, -1, 0, 2**70, 1.5, float("inf"), "", "x", "\0", [], {}, [[]])


def places(value):
    """(container, key) of every value in a JSON document."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


@pytest.mark.hostile
def test_any_wrong_value_is_an_index_or_a_named_error(tmp_path, capsys):
    rle = {"size": [40, 60], "counts": [100, 50, 2250]}
    rows = [
        annotation(1, keypoints=[1, 2, 2, 3, 4, 1]),
        annotation(2, segmentation=rle),
    ]
    content = coco(rows, 2)
    content["categories"][0] |= {"keypoints": ["a", "b"], "skeleton": [[1, 2]]}
    write_folder(tmp_path, content)
    path = tmp_path / "annotations.json"
    for container, key in list(places(content)):
        before = container[key]
        for value in GARBAGE:
            container[key] = value
            path.write_text(json.dumps(content))
            try:
                index = read(tmp_path)
                for image in index.images:
                    for target in ("masks", "keypoints", "boxes"):
                        read_objects(image, index.labels, target, index.num_keypoints)
            except (DataError, FileError) as error:
                assert str(tmp_path) in str(error)
        container[key] = before
