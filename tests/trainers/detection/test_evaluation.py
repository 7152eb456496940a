"""Average precision, against pycocotools run on files as its demo does."""

import contextlib
import dataclasses
import io
import json

import numpy as np
import pytest
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from trainers.core.errors import DataError, UserError
from trainers.detection import evaluation, shapes
from trainers.detection.data import load_index
from trainers.detection.data.configs import DataConfig
from trainers.detection.data.objects import decode_mask

FILES = {"masks": "instances.json", "keypoints": "keypoints.json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("shapes"))
    shapes.write_images(folder, 24)
    return folder


def read_index(folder, target):
    data = DataConfig(
        input_path=f"{folder}/images", annotation_file=f"{folder}/{FILES[target]}"
    )
    return load_index(data)


def detect(image, index, random=None):
    """The objects of an image, moved and with wrong labels at random."""
    found = image.annotations
    boxes = np.array([a.bbox for a in found]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = [decode_mask(a.segmentation, (image.height, image.width)) for a in found]
    labels = np.array([index.labels[a.category] for a in found], int)
    scores = np.ones(len(found))
    points = np.zeros((len(found), index.num_keypoints, 3))
    if index.num_keypoints and found:
        points[:] = [a.keypoints for a in found]
    if random is not None:
        boxes += random.normal(0, 2, boxes.shape)
        masks = [np.roll(m, random.integers(-3, 4), axis=1) for m in masks]
        points[..., :2] += random.normal(0, 2, points[..., :2].shape)
        wrong = random.random(len(found)) < 0.2
        labels[wrong] = random.integers(1, index.num_classes, wrong.sum())
        scores = random.random(len(found))
    masks = np.array(masks, bool).reshape(-1, image.height, image.width)
    return {
        "boxes": boxes,
        "labels": labels,
        "scores": scores,
        "masks": masks,
        "keypoints": points,
    }


def evaluate(folder, target, random=None, **options):
    index = read_index(folder, target)
    found = evaluation.Evaluation(index, target, **options)
    for image in reversed(index.images):  # any order will do
        found.update(image.id, detect(image, index, random))
    return found


@pytest.mark.parametrize("target", FILES)
def test_perfect_detections_have_an_average_precision_of_1(folder, target, capsys):
    found = evaluate(folder, target)
    metrics = found.metrics()
    kinds = evaluation.KINDS[target]
    assert {f"{kind}_AP" for kind in kinds} <= metrics.keys()
    assert set(metrics.values()) == {1.0, None}
    assert metrics["box_APl"] is None  # no shape has 96 x 96 pixels
    for values in found.by_class().values():
        assert set(values.values()) == {1.0}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("target", FILES)
def test_metrics_are_those_of_pycocotools_on_files(folder, target, tmp_path):
    found = evaluate(folder, target, np.random.default_rng(1))
    metrics = found.metrics()
    assert 0.05 < metrics["box_AP"] < 0.9
    evaluation.write_report(found, str(tmp_path))
    for kind in evaluation.KINDS[target]:
        name = {"box": "bbox", "mask": "segm", "keypoint": "keypoints"}[kind]
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(f"{folder}/{FILES[target]}")
            results = truth.loadRes(str(tmp_path / f"results_{name}.json"))
            expected = COCOeval(truth, results, name)
            if kind == "keypoint":
                expected.params.kpt_oks_sigmas = np.full(3, 0.05)
            expected.evaluate()
            expected.accumulate()
            expected.summarize()
        names = [key for key in metrics if key.startswith(f"{kind}_")]
        stats = [None if x == -1 else x for x in expected.stats[: len(names)]]
        assert [metrics[name] for name in names] == stats


def test_detections_are_not_rounded_to_whole_pixels(folder):
    found = evaluate(folder, "masks", np.random.default_rng(0))
    values = np.array([result["bbox"] for result in found.results("box")])
    assert np.abs(values - values.round()).max() > 0.4


def test_results_have_the_format_of_submissions(folder, tmp_path):
    evaluation.write_report(evaluate(folder, "masks"), str(tmp_path))
    index = read_index(folder, "masks")
    result = json.loads((tmp_path / "results_segm.json").read_text())[-1]
    assert set(result) == {"image_id", "category_id", "segmentation", "score"}
    image = next(i for i in index.images if i.id == result["image_id"])
    assert result["segmentation"]["size"] == [image.height, image.width]
    expected = decode_mask(image.annotations[-1].segmentation, (128, 128))
    np.testing.assert_array_equal(mask.decode(result["segmentation"]), expected)


def test_the_report_has_curves_and_the_precision_of_each_class(folder, tmp_path):
    found = evaluate(folder, "masks", np.random.default_rng(1))
    evaluation.write_report(found, str(tmp_path))
    header, *rows = (tmp_path / "precision_recall.csv").read_text().splitlines()
    assert header == "kind,recall,IoU 0.5,IoU 0.75,mean"
    values = np.array([row.split(",")[1:] for row in rows], float)
    assert values.shape == (2 * 101, 4)
    # The area under a curve is the average precision.
    metrics = found.metrics()
    areas = [metrics["box_AP50"], metrics["box_AP75"], metrics["box_AP"]]
    np.testing.assert_allclose(values[:101, 1:].mean(0), areas, atol=1e-12)
    classes = (tmp_path / "ap_by_class.csv").read_text().splitlines()
    assert [line.rsplit(",", 1)[0] for line in classes[1:4]] == [
        "box,circle",
        "box,square",
        "box,triangle",
    ]
    assert (tmp_path / "precision_recall.png").read_bytes().startswith(b"\x89PNG")


def test_images_that_were_not_evaluated_do_not_count(folder):
    index = read_index(folder, "masks")
    found = evaluation.Evaluation(index, "masks")
    for image in index.images[:5]:
        found.update(image.id, detect(image, index))
    assert found.metrics()["mask_AP"] == 1


def test_no_detection_at_all_scores_0(folder):
    index = read_index(folder, "masks")
    found = evaluation.Evaluation(index, "masks")
    for image in index.images:
        nothing = {key: x[:0] for key, x in detect(image, index).items()}
        found.update(image.id, nothing)
    assert found.metrics()["box_AP"] == found.metrics()["mask_AP"] == 0


def test_a_crowd_is_neither_to_be_found_nor_a_mistake(folder):
    index = read_index(folder, "masks")
    image = next(i for i in index.images if len(i.annotations) > 1)
    crowd = image.annotations[0]._replace(is_crowd=True)
    crowded = image._replace(annotations=(crowd, *image.annotations[1:]))
    index = dataclasses.replace(index, images=(crowded,))
    for found_too in (True, False):
        found = evaluation.Evaluation(index, "boxes")
        rows = slice(0 if found_too else 1, None)
        detected = detect(image, index)
        found.update(image.id, {key: x[rows] for key, x in detected.items()})
        assert found.metrics()["box_AP"] == 1


def test_the_sigmas_of_keypoints_scale_what_counts_as_near(folder):
    def precision(sigma):
        random = np.random.default_rng(2)
        found = evaluate(folder, "keypoints", random, sigmas=[sigma] * 3)
        return found.metrics()["keypoint_AP"]

    assert precision(0.01) < precision(0.05) < precision(0.3)


def test_what_cannot_be_evaluated_is_an_error(folder):
    index = read_index(folder, "keypoints")
    with pytest.raises(UserError, match="2 sigmas for 3 keypoints"):
        evaluation.Evaluation(index, "keypoints", [0.1, 0.1])
    empty = next(image for image in index.images if not image.annotations)
    found = evaluation.Evaluation(index, "keypoints")
    found.update(empty.id, detect(empty, index))
    with pytest.raises(DataError, match="1 images evaluated have no object"):
        found.metrics()
    bad = detect(index.images[0], index)
    bad["scores"] = np.array([np.nan])
    with pytest.raises(UserError, match="not finite"):
        found.update(index.images[0].id, bad)
