"""Accuracy by view, by clip and by video, from scores gathered on the host.

A video's score is the mean (or maximum) of its views' class probabilities, a clip's
that of its crops.
Views may arrive in any order, from any replica; rows of weight 0 only fill batches. As
long as those of a video keep their order, the metrics are the same to the bit.
"""

import collections
import math

import numpy as np

from trainers.core.errors import UserError

AGGREGATIONS = {"mean": np.mean, "max": np.max}  # over the views of a video
RANKINGS = ("all", "labelled_first")  # of the videos, for mAP
LEVELS = ("clip", "view")  # prefixes of the metrics that are not by video


class Evaluation:
    """Collects the scores of views; computes metrics by view, clip and video.

    Args:
        num_videos: Length of the index.
        num_classes: K.
        is_multilabel: mAP instead of top-1 and top-5.
        view_aggregation: `mean` or `max` over the views of a video.
        ranking: See `mean_average_precision`.
        num_crops: Views of a clip. If there are several, there are metrics by clip.
    """

    def __init__(
        self,
        num_videos,
        num_classes,
        is_multilabel,
        view_aggregation,
        ranking="all",
        num_crops=1,
    ):
        if view_aggregation not in AGGREGATIONS:
            raise ValueError(
                "Invalid task.evaluation.view_aggregation. Expected one of "
                f"{tuple(AGGREGATIONS)}. Received: {view_aggregation!r}."
            )
        self._max = view_aggregation == "max"
        self._aggregate = AGGREGATIONS[view_aggregation]
        self._num_crops = num_crops
        self._is_multilabel = is_multilabel
        self._ranking = ranking
        self._video_scores = np.zeros((num_videos, num_classes), np.float64)
        self._num_views = np.zeros(num_videos, np.int64)
        labels = (num_videos, num_classes) if is_multilabel else (num_videos,)
        self._labels = np.zeros(labels, np.int64)
        # By level: ranks of the labels, or (scores, labels).
        self._rows = {level: [] for level in LEVELS}
        self._crops = collections.defaultdict(list)  # of clips that lack some
        self._losses = np.zeros(num_videos, np.float64)

    def update(self, score, label, video, view, weight, loss):
        """Adds views: probabilities `(n, K)`, labels, numbers, weights and losses."""
        real = np.asarray(weight) > 0
        score, label, video = score[real], label[real], video[real]
        if not np.isfinite(score).all():
            raise UserError(
                "The network's scores are not finite: its weights, or its input, are "
                "not finite."
            )
        add = np.maximum if self._max else np.add
        add.at(self._video_scores, video, score)
        np.add.at(self._num_views, video, 1)
        self._labels[video] = label
        np.add.at(self._losses, video, loss[real])
        self._add("view", score, label)
        if self._num_crops > 1:
            self._add_clips(score, label, video, view[real] // self._num_crops)

    def _add(self, level, score, label):
        row = (score, label) if self._is_multilabel else label_ranks(score, label)
        self._rows[level].append(row)

    def _add_clips(self, score, label, video, clip):
        for row, key in enumerate(zip(video.tolist(), clip.tolist(), strict=True)):
            self._crops[key].append((score[row], label[row]))
            if len(self._crops[key]) == self._num_crops:
                self._add_clip(self._crops.pop(key))

    def _add_clip(self, crops):
        scores, labels = zip(*crops, strict=True)
        self._add("clip", self._aggregate(scores, axis=0)[None], labels[0][None])

    def result(self) -> dict:
        """Computes the metrics; `clip_` and `view_` mark those by clip and by view."""
        seen = self._num_views > 0
        num_views = int(self._num_views.sum())
        if not num_views:
            raise UserError("None of the videos could be evaluated.")
        scores = self._video_scores[seen]
        if not self._max:
            scores = scores / self._num_views[seen, None]
        while self._crops:  # an evaluation of some batches may cut off a clip
            self._add_clip(self._crops.popitem()[1])
        return {
            **self._metrics(scores, self._labels[seen]),
            **{
                f"{level}_{name}": value
                for level, rows in self._rows.items()
                if rows
                for name, value in self._level_metrics(rows).items()
            },
            "validation_loss": math.fsum(self._losses) / num_views,
            "num_videos": int(seen.sum()),
            "num_views": num_views,
        }

    def _metrics(self, scores, labels) -> dict:
        if self._is_multilabel:
            return mean_average_precision(scores, labels, self._ranking)
        return top_k_accuracies(label_ranks(scores, labels), scores.shape[1])

    def _level_metrics(self, rows) -> dict:
        if self._is_multilabel:
            scores, labels = map(np.concatenate, zip(*rows, strict=True))
            return mean_average_precision(scores, labels, self._ranking)
        ranks = np.concatenate(rows)
        return top_k_accuracies(ranks, self._video_scores.shape[1])


def metric_names(
    num_classes: int, is_multilabel: bool, num_crops: int = 1
) -> tuple[str, ...]:
    """Names of the metrics in `Evaluation.result`, in its order."""
    names = [f"top{k}" for k in _top_ks(num_classes)]
    names = ["mAP"] if is_multilabel else names
    levels = LEVELS if num_crops > 1 else ("view",)
    parts = [f"{level}_{name}" for level in levels for name in names]
    return (*names, *parts, "validation_loss", "num_videos", "num_views")


def label_ranks(scores, labels):
    """Number of other classes that score at least as high as the label, `(n,)`.

    Ties count against the network: constant scores are never correct.
    """
    own = np.take_along_axis(scores, np.asarray(labels)[:, None], axis=1)
    return np.sum(scores >= own, axis=1) - 1


def top_k_accuracies(ranks, num_classes: int) -> dict:
    """Top-1 and top-5 accuracy from the ranks of the labels.

    With five classes or fewer `top5` is always 1, and is left out.
    """
    return {f"top{k}": float(np.mean(ranks < k)) for k in _top_ks(num_classes)}


def _top_ks(num_classes: int) -> tuple[int, ...]:
    return (1, 5) if num_classes > 5 else (1,)


def mean_average_precision(scores, labels, ranking: str = "all") -> dict:
    """mAP: the mean over the classes that occur of the average precision.

    The average precision of a class is the mean over its videos of the precision at
    that video's rank, with all videos ranked by their score of the class.

    Args:
        scores: `(n, K)`, finite.
        labels: `(n, K)`, 0 or 1.
        ranking: `all`: every video by its score; equal scores share a rank
            (scikit-learn). `labelled_first`: as `Charades_v1_classify.m` does, videos
            without any label come last, whatever their scores; equal scores are
            ranked in the order of the index. That script gives NaN if a class does
            not occur.
    """
    labels = np.asarray(labels) > 0
    occurs = labels.any(axis=0)
    if not occurs.any():
        return {"mAP": 0.0}
    scores, labels = np.asarray(scores)[:, occurs], labels[:, occurs]
    if ranking == "labelled_first":
        precisions = _precisions_of_labelled(scores, labels, labels.any(axis=1))
    else:
        from sklearn.metrics import average_precision_score  # takes 0.6 s

        precisions = average_precision_score(labels, scores, average=None)
    return {"mAP": float(np.mean(precisions))}


def _precisions_of_labelled(scores, labels, is_labelled):
    """Average precision of each class, videos without labels ranked last."""
    ranked = np.where(is_labelled[:, None], scores, -np.inf)
    order = np.argsort(-ranked, axis=0, kind="stable")
    hits = np.take_along_axis(labels, order, axis=0)
    precision = np.cumsum(hits, axis=0) / np.arange(1, len(hits) + 1)[:, None]
    return np.sum(precision * hits, axis=0) / np.sum(hits, axis=0)


def format_metrics(metrics: dict) -> str:
    """Formats a table: accuracies by video, by clip and by view, then the counts.

    Example:
    >>> print(format_metrics({"top1": 0.5, "view_top1": 0.25, "num_videos": 4}))
                    by video   by view
    top1              50.0 %    25.0 %
    num_videos             4
    """
    levels = [
        level
        for level in LEVELS
        if any(name.startswith(f"{level}_") for name in metrics)
    ]
    titles = ["by video", *(f"by {level}" for level in levels)]
    lines = [f"{'':<14}" + "".join(f"{title:>10}" for title in titles)]
    for name, value in metrics.items():
        if name.startswith(tuple(f"{level}_" for level in levels)):
            continue
        if levels and f"{levels[0]}_{name}" in metrics:
            values = [value, *(metrics[f"{level}_{name}"] for level in levels)]
            lines.append(f"{name:<14}" + "".join(map(_percent, values)))
        elif isinstance(value, float):
            lines.append(f"{name:<15} {value:>8.4f}")
        elif isinstance(value, int):
            lines.append(f"{name:<15} {value:>8d}")
    if "views" in metrics:
        lines.append(f"{'views':<15} {metrics['views']}")
    return "\n".join(lines)


def _percent(value: float) -> str:
    return f"{f'{100 * value:.1f} %':>10}"
