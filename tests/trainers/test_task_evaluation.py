"""Losses and metrics against plain loops."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from trainers.video_classification import losses
from trainers.video_classification.evaluation import (
    Evaluation,
    format_metrics,
    label_ranks,
    mean_average_precision,
    metric_names,
    top_k_accuracies,
)

LEVELS = ("", "clip_", "view_")
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(5, 7)).astype(np.float32) * 3


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_loss_is_the_cross_entropy_of_smoothed_labels(smoothing):
    labels = np.array([0, 6, 3, 3, 1], np.int32)
    targets = (1 - smoothing) * np.eye(7)[labels] + smoothing / 7
    expected = -np.sum(targets * np.log(softmax(LOGITS)), axis=-1)
    computed = losses.softmax_losses(labels, LOGITS, smoothing)
    np.testing.assert_allclose(computed, expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, 7)])
def test_softmax_loss_of_mixed_labels_is_the_mean_over_them(smoothing, weights):
    labels = softmax(RANDOM.normal(size=(5, 7)))
    expected = np.zeros(5)
    for i, k in np.ndindex(5, 7):
        target = (1 - smoothing) * np.eye(7)[k] + smoothing / 7
        loss = -np.sum(target * np.log(softmax(LOGITS[i])))
        expected[i] += labels[i, k] * loss * (1 if weights is None else weights[k])
    computed = losses.softmax_losses(
        labels.astype(np.float32),
        LOGITS,
        smoothing,
        None if weights is None else weights.astype(np.float32),
    )
    np.testing.assert_allclose(computed, expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_sigmoid_loss_is_the_mean_over_classes(smoothing, mixed):
    labels = RANDOM.integers(0, 2, (5, 7)).astype(np.float32)
    if mixed:
        labels = RANDOM.random((5, 7), np.float32)
    targets = (1 - smoothing) * labels + smoothing / 2
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    expected = -np.mean(targets * np.log(p) + (1 - targets) * np.log(1 - p), axis=-1)
    computed = losses.sigmoid_losses(labels, LOGITS, smoothing)
    np.testing.assert_allclose(computed, expected, rtol=1e-5)


def test_losses_of_float16_logits_are_float32():
    labels = np.zeros(5, np.int32)
    assert losses.softmax_losses(labels, LOGITS.astype(np.float16)).dtype == "float32"


def test_rank_counts_the_classes_that_score_as_high():
    scores = np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [1 / 3] * 3])
    assert label_ranks(scores, np.array([0, 0, 0])).tolist() == [0, 2, 2]


def test_constant_scores_are_never_right():
    ranks = label_ranks(np.ones((4, 6)), np.array([0, 1, 2, 5]))
    assert top_k_accuracies(ranks, 6) == {"top1": 0.0, "top5": 0.0}


@pytest.mark.parametrize(("classes", "names"), [(5, {"top1"}), (6, {"top1", "top5"})])
def test_top5_is_reported_for_more_than_five_classes(classes, names):
    assert set(top_k_accuracies(np.zeros(3), classes)) == names


def views(num_videos=4, num_views=3, classes=6, multilabel=False):
    """All views of all videos, shuffled, with rows that only fill up."""
    random = np.random.default_rng(1)
    video = np.repeat(np.arange(num_videos), num_views)
    view = np.tile(np.arange(num_views), num_videos)
    score = softmax(random.normal(size=(len(video), classes)))
    shape = (num_videos, classes) if multilabel else num_videos
    label = random.integers(0, 2 if multilabel else classes, shape)
    loss = random.uniform(size=len(video))
    order = random.permutation(len(video))
    rows = {"score": score, "label": label[video], "video": video, "loss": loss}
    rows["view"] = view
    rows = {name: value[order] for name, value in rows.items()}
    filler = {name: np.repeat(value[:1], 2, axis=0) for name, value in rows.items()}
    rows = {name: np.concatenate([rows[name], filler[name]]) for name in rows}
    weight = np.concatenate([np.ones(len(video)), np.zeros(2)])
    return {**rows, "weight": weight}, label


def evaluate(rows, aggregation="mean", multilabel=False, num_videos=4, num_crops=1):
    evaluation = Evaluation(num_videos, 6, multilabel, aggregation, "all", num_crops)
    for part in range(0, len(rows["video"]), 4):  # in batches
        evaluation.update(**{k: v[part : part + 4] for k, v in rows.items()})
    return evaluation.result()


@pytest.mark.parametrize("aggregation", ["mean", "max"])
def test_videos_are_scored_by_their_views(aggregation):
    rows, labels = views()
    result = evaluate(rows, aggregation)
    real = rows["weight"] > 0
    reduce = np.mean if aggregation == "mean" else np.max
    hits = 0
    for video, label in enumerate(labels):
        mine = rows["score"][real & (rows["video"] == video)]
        assert len(mine) == 3
        hits += reduce(mine, axis=0).argmax() == label
    by_view = rows["score"].argmax(-1) == rows["label"]
    assert result["top1"] == hits / 4
    assert result["view_top1"] == pytest.approx(by_view[real].mean())
    assert result["validation_loss"] == pytest.approx(rows["loss"][real].mean())
    assert (result["num_videos"], result["num_views"]) == (4, 12)


@pytest.mark.parametrize("aggregation", ["mean", "max"])
@pytest.mark.parametrize("multilabel", [False, True])
def test_clips_are_scored_by_their_crops(aggregation, multilabel):
    """Two clips of three crops; the views come in any order."""
    rows, labels = views(8, 6, multilabel=multilabel)
    result = evaluate(rows, aggregation, multilabel, num_videos=8, num_crops=3)
    reduce = np.mean if aggregation == "mean" else np.max
    scores, targets = [], []
    for video in range(8):
        for clip in range(2):
            is_mine = (rows["video"] == video) & (rows["view"] // 3 == clip)
            mine = rows["score"][(rows["weight"] > 0) & is_mine]
            assert len(mine) == 3
            scores.append(reduce(mine, axis=0))
            targets.append(labels[video])
    scores, targets = np.stack(scores), np.stack(targets)
    if multilabel:
        expected = average_precision_score(targets, scores, average="macro")
        assert result["clip_mAP"] == pytest.approx(expected)
    else:
        assert result["clip_top1"] == np.mean(scores.argmax(-1) == targets)
        assert "clip_top5" in result
    values = [result[f"{level}{'mAP' if multilabel else 'top1'}"] for level in LEVELS]
    assert len(set(values)) > 1


def test_a_clip_that_lacks_crops_is_scored_by_those_it_has():
    rows, _ = views(1, 6)
    rows = {name: value[:4] for name, value in rows.items()}
    rows["view"] = np.arange(4)  # the second clip has one view
    result = evaluate(rows, num_videos=1, num_crops=3)
    scores = [rows["score"][:3].mean(0), rows["score"][3]]
    hits = [score.argmax() == rows["label"][0] for score in scores]
    assert result["clip_top1"] == np.mean(hits)


@pytest.mark.parametrize("num_crops", [1, 3])
@pytest.mark.parametrize("multilabel", [False, True])
def test_all_metrics_are_named_beforehand(multilabel, num_crops):
    rows, _ = views(multilabel=multilabel)
    result = evaluate(rows, multilabel=multilabel, num_crops=num_crops)
    assert metric_names(6, multilabel, num_crops) == tuple(result)


def test_of_five_classes_there_is_no_top5():
    names = ("top1", "view_top1", "validation_loss", "num_videos", "num_views")
    assert metric_names(5, False) == names


def test_videos_without_a_view_are_not_counted():
    rows, _ = views()
    assert evaluate(rows, num_videos=9)["num_videos"] == 4


def test_map_by_video_and_by_view():
    rows, labels = views(num_videos=8, multilabel=True)
    result = evaluate(rows, multilabel=True, num_videos=8)
    real = rows["weight"] > 0
    scores = np.stack(
        [rows["score"][real & (rows["video"] == v)].mean(0) for v in range(8)]
    )
    assert labels.sum(0).all()
    expected = average_precision_score(labels, scores, average="macro")
    assert result["mAP"] == pytest.approx(expected)
    by_view = average_precision_score(
        rows["label"][real], rows["score"][real], average="macro"
    )
    assert result["view_mAP"] == pytest.approx(by_view)


def test_map_is_over_the_classes_that_occur():
    labels = np.array([[1, 0, 0], [0, 0, 1]])
    scores = np.array([[0.9, 0.1, 0.8], [0.2, 0.7, 0.6]])
    assert mean_average_precision(scores, labels) == {"mAP": (1.0 + 0.5) / 2}


def charades_classify(scores, labels):
    """A port of `Charades_v1_classify.m`, loop by loop: NaN for absent classes.

    Videos without actions are not found by their id there: their scores stay -inf.
    """
    test = np.full(scores.shape, -np.inf)
    for video in range(len(scores)):
        if labels[video].any():
            test[video] = scores[video]
    precisions = []
    for k in range(scores.shape[1]):
        ranked = sorted(range(len(test)), key=lambda video: -test[video, k])
        hits, total = 0, 0.0
        for rank, video in enumerate(ranked, 1):
            if labels[video, k]:
                hits += 1
                total += hits / rank
        precisions.append(total / hits if hits else np.nan)
    return np.array(precisions)


@pytest.mark.parametrize("seed", range(4))
def test_map_of_charades_is_that_of_its_script(seed):
    random = np.random.default_rng(seed)
    for _ in range(250):
        videos, classes = random.integers(1, 30), random.integers(1, 8)
        labels = random.random((videos, classes)) < random.choice([0.05, 0.3, 0.9])
        scores = random.random((videos, classes))
        if random.random() < 0.3:
            scores = scores.round(1)  # ties
        computed = mean_average_precision(scores, labels, "labelled_first")["mAP"]
        expected = charades_classify(scores, labels)
        if labels.any():
            assert computed == pytest.approx(np.nanmean(expected), abs=1e-9)
        else:
            assert computed == 0


def test_videos_without_labels_come_last():
    scores, labels = np.array([[0.9], [0.1]]), np.array([[0], [1]])
    assert mean_average_precision(scores, labels) == {"mAP": 0.5}
    assert mean_average_precision(scores, labels, "labelled_first") == {"mAP": 1.0}


def test_scores_that_are_not_finite_are_an_error():
    rows, _ = views()
    rows["score"][0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        evaluate(rows)


def test_no_video_at_all_is_an_error():
    rows, _ = views()
    rows["weight"][:] = 0
    with pytest.raises(ValueError, match="None of the videos"):
        evaluate(rows)


def test_an_unknown_aggregation_is_named():
    with pytest.raises(ValueError, match=r"view_aggregation.*'median'"):
        Evaluation(1, 2, False, "median")


def test_the_table_has_both_columns():
    table = format_metrics({"top1": 0.5, "view_top1": 0.25, "num_videos": 4})
    assert [line.split() for line in table.splitlines()] == [
        ["by", "video", "by", "view"],
        ["top1", "50.0", "%", "25.0", "%"],
        ["num_videos", "4"],
    ]


def test_the_table_has_a_column_by_clip_and_names_the_views():
    metrics = {
        "top1": 0.5,
        "clip_top1": 0.3,
        "view_top1": 0.25,
        "views": "spread, 2 x 3",
    }
    assert [line.split() for line in format_metrics(metrics).splitlines()] == [
        ["by", "video", "by", "clip", "by", "view"],
        ["top1", "50.0", "%", "30.0", "%", "25.0", "%"],
        ["views", "spread,", "2", "x", "3"],
    ]


def test_large_numbers_keep_their_distance_from_their_names():
    table = format_metrics({"validation_loss": 40829.1234, "num_videos": 123456789})
    assert "validation_loss 40829.1234" in table
    assert "num_videos      123456789" in table
