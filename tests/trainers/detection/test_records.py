"""COCO TFRecords of the Model Garden give the batches of the JSON they were made of."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from official.vision.data import tfrecord_lib
from official.vision.dataloaders.tf_example_decoder import TfExampleDecoder

from keras_nonlocal.models import DETECTION_CONVENTIONS
from tests.trainers.detection.coco_files import annotation, coco, write_folder
from trainers.core.errors import DataError
from trainers.core.failures import FailureLog
from trainers.detection.data import load_index, make_dataset, objects
from trainers.detection.data.configs import DataConfig

NAME = "train-00000-of-00001.tfrecord"


def write_records(folder, path):
    """Writes the records of a folder, with the keys of `create_coco_tf_record.py`."""
    (folder / "records").mkdir()
    feature = tfrecord_lib.convert_to_feature
    index = load_index(DataConfig(input_path=str(folder)))
    with tf.io.TFRecordWriter(str(folder / "records" / path)) as writer:
        for image in index.images:
            found, size = image.annotations, (image.height, image.width)
            boxes = np.array([a.bbox for a in found]).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            masks = [objects.decode_mask(a.segmentation, size) for a in found]
            content = pathlib.Path(image.path).read_bytes()
            features = tfrecord_lib.image_info_to_feature_dict(
                *size, image.path, image.id, content, "png"
            )
            for i, name in enumerate(("xmin", "ymin", "xmax", "ymax")):
                values = (boxes[:, i] / size[1 - i % 2]).tolist()
                features[f"image/object/bbox/{name}"] = feature(values, "float_list")
            features |= {
                "image/object/class/label": feature(
                    [a.category for a in found], "int64_list"
                ),
                "image/object/is_crowd": feature(
                    [int(a.is_crowd) for a in found], "int64_list"
                ),
                "image/object/area": feature([a.area for a in found], "float_list"),
                "image/object/mask": feature(
                    [tf.io.encode_png(m[..., None]).numpy() for m in masks],
                    "bytes_list",
                ),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    rows = [
        annotation(10 * image + i, image, [6.0 * i, 5.0, 9.5, 7.25], 1 + i % 2)
        for image in range(1, 6)
        for i in range(image)
    ]
    rows.append(annotation(99, 2, iscrowd=1))
    write_folder(folder, coco(rows, 5))
    write_records(folder, NAME)
    return folder


def settings(folder, records=True, **changes):
    return DataConfig(
        input_path=str(folder / "records" if records else folder),
        annotation_file=str(folder / "annotations.json"),
        global_batch_size=5,
        min_size=[48],
        max_size=90,
        **changes,
    )


def batch(data, **options):
    convention = DETECTION_CONVENTIONS["torchvision"]
    dataset = make_dataset(load_index(data), data, convention, **options)
    return next(dataset.as_numpy_iterator())


@pytest.mark.parametrize("is_training", [True, False])
def test_records_give_the_batches_of_the_json(folder, is_training):
    found = batch(settings(folder, is_training=is_training))
    expected = batch(settings(folder, records=False, is_training=is_training))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)


def test_records_are_those_that_the_model_garden_reads(folder):
    path = str(folder / "records" / NAME)
    decoder = TfExampleDecoder(include_mask=True)
    examples = map(decoder.decode, tf.data.TFRecordDataset(path))
    assert [int(e["source_id"]) for e in examples] == [1, 2, 3, 4, 5]
    index = load_index(settings(folder, is_training=False))
    assert [image.id for image in index.images] == [1, 2, 3, 4, 5]


def test_a_glob_of_shards_is_read(folder):
    data = settings(folder, is_training=True)
    data.input_path = f"{folder}/records/train-*"
    assert len(load_index(data)) == 5


def test_records_without_annotations_of_their_own_need_the_json(folder):
    data = settings(folder, is_training=True)
    data.annotation_file = ""
    with pytest.raises(DataError, match="have no class names: set `annotation_file`"):
        load_index(data)
    data = settings(folder, is_training=True, aspect_ratio_grouping=True)
    with pytest.raises(DataError, match="aspect_ratio_grouping"):
        batch(data)


def test_a_damaged_record_is_replaced_and_named(folder, tmp_path):
    content = bytearray((folder / "records" / NAME).read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / NAME).write_bytes(content)
    annotations = json.loads((folder / "annotations.json").read_text())
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    failures = FailureLog(0.5, "image")
    found = batch(settings(tmp_path, is_training=True), failures=failures)
    assert found["weight"].all()
    ((path, reason),) = failures.failures.items()
    assert f"{NAME}#" in path and "the checksum does not match" in reason
