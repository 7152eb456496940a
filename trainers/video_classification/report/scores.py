"""Scores of the validation videos, one by one."""

import dataclasses

import numpy as np

from trainers.core.errors import UserError
from trainers.core.progress import ProgressBar
from trainers.video_classification import predictors
from trainers.video_classification.ahead import Ahead
from trainers.video_classification.data import VideoError, read_views

_LEAST = 1e-12  # keeps logarithms finite


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a network makes of some videos.

    Attributes:
        class_names: In label order, K of them.
        videos: `data.Video`, n of them.
        probabilities: (n, K).
        is_label: (n, K), whether a video has a label.
        broken: Path of each video that cannot be read -> why.
        is_multilabel: Whether a video may have several labels, or none.
    """

    class_names: tuple[str, ...]
    videos: tuple
    probabilities: np.ndarray
    is_label: np.ndarray
    broken: dict[str, str]
    is_multilabel: bool

    @property
    def losses(self) -> np.ndarray:
        """-log p of the label; of several labels, the mean over classes."""
        p = np.where(self.is_label, self.probabilities, 1 - self.probabilities)
        logs = -np.log(np.maximum(p, _LEAST))
        if self.is_multilabel:
            return logs.mean(axis=1)
        return logs[self.is_label]

    @property
    def labels(self) -> np.ndarray:
        """The label of each video that has one."""
        return self.is_label.argmax(axis=1)

    @property
    def best(self) -> np.ndarray:
        """The most probable class of each video."""
        return self.probabilities.argmax(axis=1)


def score_videos(task, model, max_videos: int | None = None) -> Scores:
    """Scores the videos of the validation index, on the views of their config.

    Args:
        task: Task the model was trained for.
        model: Keras model to logits, weights loaded.
        max_videos: Of more, so many that are evenly spread over the index.

    Raises:
        UserError: None of them can be read.
    """
    predictor = predictors.of_model(task, model)
    chosen, found, broken = _spread(task.validation_index.videos, max_videos), [], {}
    bar = ProgressBar("report", len(chosen), unit="video", leave=False)
    read = Ahead(_read(predictor, chosen), size=1)
    try:
        for video, views in read:
            bar.advance()
            if isinstance(views, VideoError):
                broken[video.path] = views.reason
            else:
                found.append((video, predictor.score(views)[0]))
    finally:
        read.close()
        bar.close()
    if not found:
        reasons = "; ".join(f"{path}: {why}" for path, why in [*broken.items()][:3])
        raise UserError(f"None of the {len(chosen)} videos could be read. {reasons}")
    videos, probabilities = zip(*found, strict=True)
    is_label = np.zeros((len(videos), len(task.class_names)), bool)
    for row, video in zip(is_label, videos, strict=True):
        row[list(video.labels)] = True
    names = tuple(task.class_names)
    rows = np.array(probabilities)
    return Scores(names, videos, rows, is_label, broken, task.is_multilabel)


def _spread(videos, count: int | None):
    if count is None or count >= len(videos):
        return videos
    return [videos[i * len(videos) // count] for i in range(count)]


def _read(predictor, videos):
    for video in videos:
        try:
            yield (
                video,
                read_views(video.path, predictor.data, predictor.clip, predictor.plan),
            )
        except VideoError as error:
            yield video, error
