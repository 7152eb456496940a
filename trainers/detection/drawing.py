"""Pictures of detections, drawn by supervision."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

MIN_SCORE = 0.5


def draw_detections(
    image: np.ndarray,
    found: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    skeleton: Sequence[tuple[int, int]] = (),
    min_score: float = MIN_SCORE,
) -> np.ndarray:
    """Draws boxes with class and score, masks and skeletons, each object in a colour.

    Args:
        image: uint8 (H, W, 3), RGB.
        found: As `model.detect` gives it: `boxes` (n, 4), `labels` and `scores` (n,),
            and if they are there `masks` (n, H, W) bool and `keypoints` (n, K, 3).
        class_names: By label.
        skeleton: Pairs of keypoint numbers, from 0, that are joined by a line.
        min_score: Objects below are not drawn.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    import supervision  # 2 seconds, in which no training should wait

    scores = np.asarray(found["scores"], np.float64)
    kept = np.argsort(scores)  # the best is on top
    kept = kept[scores[kept] >= min_score]
    if not len(kept):
        return image.copy()
    part = {name: np.asarray(values)[kept] for name, values in found.items()}
    detections = supervision.Detections(
        xyxy=part["boxes"].astype(np.float64),
        mask=part["masks"].astype(bool) if "masks" in part else None,
        confidence=scores[kept],
        class_id=part["labels"].astype(int),
    )
    style = _Style(supervision, image.shape[:2])
    picture = np.ascontiguousarray(image[..., ::-1])  # OpenCV's order
    if "masks" in part:
        picture = style.masks.annotate(picture, detections)
    picture = style.boxes.annotate(picture, detections)
    if "keypoints" in part:
        picture = style.draw_skeletons(picture, part["keypoints"], skeleton)
    labels = [
        f"{class_names[label]} {score:.2f}"
        for label, score in zip(part["labels"], detections.confidence, strict=True)
    ]
    picture = style.labels.annotate(picture, detections, labels)
    return np.ascontiguousarray(picture[..., ::-1])


class _Style:
    """Lines and letters that suit the size of an image."""

    def __init__(self, supervision, size: tuple[int, int]):
        self._supervision, side = supervision, min(size)
        self._line = int(np.clip(side / 300, 1, 6))
        by_object = {"color_lookup": supervision.ColorLookup.INDEX}
        self.masks = supervision.MaskAnnotator(opacity=0.45, **by_object)
        self.boxes = supervision.BoxAnnotator(thickness=self._line, **by_object)
        self.labels = supervision.RichLabelAnnotator(
            font_path=_font(),
            font_size=int(np.clip(side / 40, 9, 40)),
            text_padding=int(np.clip(side / 200, 1, 8)),
            smart_position=True,
            **by_object,
        )

    def draw_skeletons(self, picture, keypoints, skeleton):
        """Draws keypoints (n, K, 3), and lines between those of a pair."""
        sv = self._supervision
        points = sv.KeyPoints(
            xy=keypoints[..., :2].astype(np.float32), visible=keypoints[..., 2] > 0
        )
        if len(skeleton):  # without, supervision draws lines of its own
            edges = [(a + 1, b + 1) for a, b in skeleton]
            lines = sv.EdgeAnnotator(sv.Color.WHITE, self._line, edges)
            picture = lines.annotate(picture, points)
        corners = sv.VertexAnnotator(sv.Color.RED, self._line + 2)
        return corners.annotate(picture, points)


def _font() -> str:
    """A font with the letters of European languages, which matplotlib brings."""
    import matplotlib

    return os.path.join(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
