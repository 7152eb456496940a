"""Average precision of boxes, masks and keypoints, by pycocotools, in memory."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from trainers.core import files
from trainers.core.errors import DataError, UserError
from trainers.detection.data import Annotation, Index

KINDS = {  # target -> what is evaluated
    "boxes": ("box",),
    "masks": ("box", "mask"),
    "keypoints": ("box", "keypoint"),
}
DEFAULT_SIGMA = 0.05
_IOU_TYPES = {"box": "bbox", "mask": "segm", "keypoint": "keypoints"}
_SCORES = {  # in the order of COCOeval.stats
    "box": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "mask": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "keypoint": ("AP", "AP50", "AP75", "APm", "APl"),
}
_CURVES = {"IoU 0.5": slice(0, 1), "IoU 0.75": slice(5, 6), "mean": slice(None)}


class Evaluation:
    """Collects the detections of images; computes COCO's average precisions.

    Only images that were added count, in any order.

    Args:
        index: The annotations, and the category of each label.
        target: `boxes`, `masks` or `keypoints`; masks and keypoints include boxes.
        sigmas: For the similarity of keypoints: the standard deviation of each
            keypoint's annotation, in units of the square root of the object's area.
            None: COCO's for 17 keypoints, else 0.05 each.
    """

    def __init__(
        self, index: Index, target: str, sigmas: Sequence[float] | None = None
    ):
        self.kinds = KINDS[target]
        self._index, self._sigmas = index, sigmas
        if sigmas is not None and len(sigmas) != index.num_keypoints:
            raise UserError(
                f"There are {len(sigmas)} sigmas for {index.num_keypoints} keypoints."
            )
        self._images = {image.id: image for image in index.images}
        self._results = {kind: [] for kind in self.kinds}
        self._seen: set[int] = set()

    def update(self, image_id: int, found: Mapping[str, np.ndarray]) -> None:
        """Adds the detections of an image, as `model.detect` gives them.

        Args:
            image_id: As in the annotations.
            found: `boxes` (n, 4), x1, y1, x2, y2 in the pixels of the image, `labels`
                and `scores` (n,); `masks` (n, height, width) bool, or RLEs of
                pycocotools; `keypoints` (n, K, 3).
        """
        if not np.isfinite(found["scores"]).all():
            raise UserError(
                "The network's scores are not finite: its weights, or its input, are "
                "not finite."
            )
        self.__dict__.pop("_evaluations", None)
        self._seen.add(image_id)
        for i, label in enumerate(found["labels"]):
            category = self._index.category_ids[int(label)]
            if category is None:  # which no image here has
                continue
            detection = {
                "image_id": image_id,
                "category_id": category,
                "score": float(found["scores"][i]),
            }
            for kind in self.kinds:
                self._results[kind].append(detection | _PARTS[kind](found, i))

    def results(self, kind: str) -> list[dict]:
        """The detections in the format of submissions to COCO.

        Args:
            kind: `box`, `mask` or `keypoint`.
        """
        return self._results[kind]

    def metrics(self) -> dict[str, float | None]:
        """`box_AP`, `box_AP50`, ..., and the same of masks or keypoints, from 0 to 1.

        None: there is no such object, as for `APs` without small ones.

        Raises:
            DataError: No image was added, or none has an object.
        """
        return {
            f"{kind}_{name}": _or_none(value)
            for kind, evaluation in self._evaluations.items()
            for name, value in zip(_SCORES[kind], evaluation.stats, strict=False)
        }

    def by_class(self) -> dict[str, dict[str, float | None]]:
        """AP of each class: kind -> class name -> AP; None of those without objects."""
        names = self._index.class_names
        return {
            kind: {
                names[self._index.labels[category]]: _mean(precision[:, :, number])
                for number, category in enumerate(evaluation.params.catIds)
            }
            for kind, evaluation in self._evaluations.items()
            for precision in [_precision(evaluation)]
        }

    def curves(self) -> dict[str, dict[str, np.ndarray]]:
        """Precision at each recall: kind -> curve -> (101,), the mean over classes.

        Curves are `recall`, and the precision at `IoU 0.5`, at `IoU 0.75`, and its
        `mean` over IoUs from 0.5 to 0.95. Of keypoints it is OKS instead of IoU.
        """
        return {
            kind: {"recall": np.array(evaluation.params.recThrs)}
            | {name: _curve(evaluation, part) for name, part in _CURVES.items()}
            for kind, evaluation in self._evaluations.items()
        }

    @functools.cached_property
    def _evaluations(self) -> dict[str, COCOeval]:
        with contextlib.redirect_stdout(io.StringIO()):
            return {kind: self._evaluate(kind) for kind in self.kinds}

    def _evaluate(self, kind: str) -> COCOeval:
        truth = self._truth(kind)
        if not truth.anns:
            raise DataError(
                f"{self._index.path}: the {len(self._seen)} images evaluated have no "
                f"object to find (of kind {kind!r})."
            )
        evaluation = COCOeval(truth, self._found(kind, truth), _IOU_TYPES[kind])
        evaluation.params.imgIds = sorted(self._seen)
        if kind == "keypoint":
            sigmas = self._sigmas
            if sigmas is None and self._index.num_keypoints != 17:
                sigmas = [DEFAULT_SIGMA] * self._index.num_keypoints
            if sigmas is not None:
                evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation

    def _truth(self, kind: str) -> COCO:
        """What is to be found, as pycocotools has it after reading a file."""
        images = [self._images[identity] for identity in sorted(self._seen)]
        pairs = [(image.id, a) for image in images for a in image.annotations]
        if kind == "mask":
            pairs = [(i, a) for i, a in pairs if a.segmentation is not None]
        ids = [identity for identity in self._index.labels if identity is not None]
        return _coco(
            [{"id": i.id, "height": i.height, "width": i.width} for i in images],
            [{"id": identity} for identity in ids],
            # pycocotools takes id 0 for "no match".
            [
                {"id": number, "image_id": image, **self._annotation(found)}
                for number, (image, found) in enumerate(pairs, 1)
            ],
        )

    def _annotation(self, found: Annotation) -> dict:
        points = found.keypoints
        if points is None:
            points = np.zeros((self._index.num_keypoints, 3))
        return {
            "category_id": found.category,
            "bbox": list(found.bbox),
            "area": found.area,
            "iscrowd": int(found.is_crowd),
            "segmentation": found.segmentation,
            "keypoints": points.ravel().tolist(),
            "num_keypoints": found.num_keypoints,
        }

    def _found(self, kind: str, truth: COCO) -> COCO:
        results = self._results[kind]
        if results:
            return truth.loadRes([dict(result) for result in results])
        return _coco(truth.dataset["images"], truth.dataset["categories"], [])


def _coco(images: list, categories: list, annotations: list) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": images,
        "categories": categories,
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


# === Detections in COCO's format ===


def _box(found, i: int) -> dict:
    x1, y1, x2, y2 = np.asarray(found["boxes"][i], np.float64).tolist()
    return {"bbox": [x1, y1, x2 - x1, y2 - y1]}


def _mask(found, i: int) -> dict:
    rle = found["masks"][i]
    if not isinstance(rle, dict):
        rle = mask.encode(np.asfortranarray(rle, np.uint8))
    counts = rle["counts"]
    counts = counts.decode() if isinstance(counts, bytes) else counts
    return {"segmentation": {"size": [int(n) for n in rle["size"]], "counts": counts}}


def _keypoint(found, i: int) -> dict:
    return {"keypoints": np.asarray(found["keypoints"][i], float).ravel().tolist()}


_PARTS = {"box": _box, "mask": _mask, "keypoint": _keypoint}


# === Numbers of pycocotools ===


def _precision(evaluation: COCOeval) -> np.ndarray:
    """(IoUs, recalls, classes), for objects of all sizes; -1 without objects."""
    return evaluation.eval["precision"][:, :, :, 0, -1]


def _mean(precision: np.ndarray) -> float | None:
    precision = precision[precision > -1]
    return float(precision.mean()) if precision.size else None


def _or_none(value: float) -> float | None:
    return float(value) if value > -1 else None


def _curve(evaluation: COCOeval, part: slice) -> np.ndarray:
    precision = _precision(evaluation)[part]
    precision = precision[:, :, (precision > -1).all((0, 1))]
    return precision.mean((0, 2))


# === Report ===


def write_report(evaluation: Evaluation, folder: str) -> None:
    """Writes what an evaluation found out.

    - `results_bbox.json`, `results_segm.json`, `results_keypoints.json`: the
      detections in the format of submissions to COCO.
    - `ap_by_class.csv`: kind, class, AP.
    - `precision_recall.csv`, `precision_recall.png`: the curves.

    Args:
        evaluation: To report on.
        folder: Where to write.
    """
    for kind in evaluation.kinds:
        path = files.join(folder, f"results_{_IOU_TYPES[kind]}.json")
        files.write_json(path, evaluation.results(kind))
    by_class = evaluation.by_class()
    rows = [(kind, *item) for kind in by_class for item in by_class[kind].items()]
    path = files.join(folder, "ap_by_class.csv")
    files.write_text(path, _csv(("kind", "class", "AP"), rows))
    curves = evaluation.curves()
    names = ("recall", *_CURVES)
    rows = [
        (kind, *values)
        for kind, found in curves.items()
        for values in zip(*(found[name].tolist() for name in names), strict=True)
    ]
    path = files.join(folder, "precision_recall.csv")
    files.write_text(path, _csv(("kind", *names), rows))
    files.write_bytes(files.join(folder, "precision_recall.png"), draw_curves(curves))


def _csv(header: Sequence[str], rows) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def draw_curves(curves: Mapping[str, Mapping[str, np.ndarray]]) -> bytes:
    """Precision over recall, a panel for each kind, as PNG.

    Args:
        curves: Of `Evaluation.curves`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(curves), 4), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (kind, found) in zip(panels, curves.items(), strict=True):
        for name in _CURVES:
            label = name.replace("IoU", "OKS") if kind == "keypoint" else name
            panel.plot(found["recall"], found[name], label=label)
        panel.set(title=kind, xlabel="recall", ylabel="precision")
        panel.set(xlim=(0, 1), ylim=(0, 1.02))
        panel.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()


def metric_names(target: str) -> tuple[str, ...]:
    """Names of the metrics of `Evaluation.metrics`, in its order."""
    return tuple(f"{kind}_{name}" for kind in KINDS[target] for name in _SCORES[kind])


def format_metrics(metrics: Mapping) -> str:
    """Formats a table: a row for each kind, in percent.

    Example:
    >>> print(format_metrics({"mask_AP": 0.346, "mask_AP50": 0.568, "mask_APs": None}))
            AP  AP50   APs
    mask  34.6  56.8     -
    """
    kinds = [kind for kind in _IOU_TYPES if f"{kind}_AP" in metrics]
    names = [n for n in _SCORES["box"] if any(f"{k}_{n}" in metrics for k in kinds)]
    width = max(map(len, kinds), default=0)
    lines = [" " * width + "".join(f"{name:>6}" for name in names)]
    for kind in kinds:
        values = [metrics.get(f"{kind}_{name}") for name in names]
        cells = ["-" if v is None else f"{100 * v:.1f}" for v in values]
        lines.append(f"{kind:<{width}}" + "".join(f"{cell:>6}" for cell in cells))
    return "\n".join(lines)
