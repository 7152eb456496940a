"""What scores the views of a video: a trained network, or an exported one.

An exported network is run as it is, without Keras, whose import takes a second.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from trainers.core import files
from trainers.core.classes import read_class_file
from trainers.core.errors import UserError
from trainers.video_classification.data import normalize
from trainers.video_classification.data.configs import ClipConfig, DataConfig
from trainers.video_classification.data.errors import VideoError
from trainers.video_classification.data.views import TestViews, Window
from trainers.video_classification.evaluation import AGGREGATIONS
from trainers.video_classification.request_limits import reason

# Views in the network at once: thirty of 32x256x256 do not fit in every memory. A
# call has half of them, so that there is room for the views of two videos.
_VIEWS_AT_ONCE, _VIEWS_PER_CALL = 4, 2
_ROOM, _FIRST_IN_LINE = threading.Semaphore(_VIEWS_AT_ONCE), threading.Lock()


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A network, and how a video is cut for it.

    Attributes:
        name: Path of its checkpoint or export.
        class_names: In label order.
        data: Decoder, limits and views.
        clip: The clips.
        plan: The views, `ViewPlan`.
        score: Function from uint8 views `(V, T, H, W, 3)` to the probabilities
            `(classes,)` of the video, and its features or None.
    """

    name: str
    class_names: tuple[str, ...]
    data: DataConfig
    clip: ClipConfig
    plan: TestViews
    score: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


def of_model(task, model, name: str = "", with_features: bool = False) -> Predictor:
    """A trained network; views are cut and aggregated as in evaluation.

    Args:
        task: Task the model was trained for: clips, test views, class names.
        model: Keras model from normalised clips to logits, weights loaded.
        name: Path of its checkpoint.
        with_features: Also compute the mean features over views: what the
            classifier receives.
    """
    data, clip = task.task_config.validation_data, task.task_config.clip
    data.check()
    data.check_clip(clip)
    score = build_video_scorer(task, model, with_features)
    names, plan = tuple(task.class_names), TestViews(data, clip)
    return Predictor(name, names, data, clip, plan, score)


def build_video_scorer(task, model, with_features: bool = False) -> Callable:
    """The function `score` of a `Predictor`; see `of_model`."""
    from trainers.video_classification.scoring import build_scorer, inference_form

    config = task.task_config
    clip, data = config.clip, config.validation_data
    aggregate = AGGREGATIONS[config.evaluation.view_aggregation]
    scorer = build_scorer(inference_form(model), config, with_features)

    # Whole frames have many sizes: one graph for all, instead of one for each.
    @tf.function(reduce_retracing=data.protocol.whole_frame)
    def outputs(views):
        return scorer(normalize(views, clip, tf.float32))[1:]

    def score(views):
        scores, *more = in_parts(outputs, views)
        return aggregate(scores, axis=0), more[0].mean(axis=0) if more else None

    return score


def in_parts(function: Callable, views: np.ndarray) -> list[np.ndarray]:
    """The outputs of a function of views, which gets a few of them at once."""
    parts = []
    for start in range(0, len(views), _VIEWS_PER_CALL):
        part = views[start : start + _VIEWS_PER_CALL]
        with _room_for(len(part)):
            parts.append(function(tf.constant(part)))
    return [np.concatenate(output) for output in zip(*parts, strict=True)]


@contextlib.contextmanager
def _room_for(count: int) -> Iterator[None]:
    """Context in which `count` views are in the network, beside those of other threads.

    All threads together have `_VIEWS_AT_ONCE` there.
    """
    with _FIRST_IN_LINE:
        for _ in range(count):
            _ROOM.acquire()
    try:
        yield
    finally:
        _ROOM.release(count)


# === Exported networks ===


def of_export(path: str, with_features: bool = False) -> Predictor:
    """An exported network, which gets one clip from the middle, the central square.

    The frames are scaled as in evaluation; the graph has nothing left to scale.

    Args:
        path: The folder of an export, or of its versions, of which the highest is
            used, as in TF Serving.
        with_features: Also run the signature `features`.

    Raises:
        UserError: No export, a damaged one, or one without this signature.
    """
    folder = newest_version(path)
    try:
        network = tf.saved_model.load(folder)
        class_names = read_class_file(files.join(folder, "assets/classes.txt"), False)
        asset = files.read_json(files.join(folder, "assets/preprocessing.json"))
        signatures = dict(network.signatures)
        needed = {key: asset[key] for key in ("num_frames", "temporal_stride", "fps")}
        sides = {name: asset[name] for name in ("short_side", "crop_size")}
        signatures["serving_default"]
    except Exception as error:  # damaged files raise many kinds
        raise UserError(
            f"{folder}: this export cannot be loaded ({files.reason(error)}). Export "
            "again: --mode export."
        ) from error
    clip, data = ClipConfig(**needed), _data(**sides)
    if with_features and "features" not in signatures:
        raise UserError(
            f"{folder} has no signature `features`, only {sorted(signatures)}: use "
            "--model_dir, or export again."
        )
    score = _export_scorer(network, signatures, with_features)
    plan = _SquareViews(data, clip)
    return Predictor(folder, class_names, data, clip, plan, score)


def newest_version(path: str) -> str:
    """The export in a folder: itself, or the version of the highest number."""
    if files.is_file(files.join(path, "saved_model.pb")):
        return path
    names = files.listdir(path) if files.is_folder(path) else []
    found = sorted((int(name), name) for name in names if name.isdecimal())
    folders = [files.join(path, name) for _, name in found]
    exports = [f for f in folders if files.is_file(files.join(f, "saved_model.pb"))]
    if not exports:
        raise UserError(
            f"No export in {path}: expected saved_model.pb, or numbered folders with "
            "one. To export, run --mode export."
        )
    return exports[-1]


def _data(short_side: int, crop_size: int) -> DataConfig:
    return DataConfig(
        min_short_side=short_side, max_short_side=short_side, crop_size=crop_size
    )


class _SquareViews(TestViews):
    """The squares of the short side from which the graph cuts the central crop."""

    def windows(self, height: int, width: int) -> list[Window]:
        [crop] = super().windows(height, width)
        margin, side = (self.short_side - self.size) // 2, self.short_side
        top, left = (
            min(max(edge - margin, 0), length - side)
            for edge, length in ((crop.top, crop.height), (crop.left, crop.width))
        )
        return [Window(crop.height, crop.width, top, left, side)]


def _export_scorer(network, signatures, with_features: bool) -> Callable:
    def outputs(clips):
        found = [signatures["serving_default"](clips=clips)["probabilities"]]
        if with_features:
            found.append(signatures["features"](clips=clips)["features"])
        return found

    def score(views):
        try:
            scores, *more = in_parts(outputs, views)
        except tf.errors.InvalidArgumentError as error:
            raise VideoError("", f"the network refuses it: {reason(error)}") from error
        return scores.mean(axis=0), more[0].mean(axis=0) if more else None

    score.network = network  # its variables live as long as it does
    return score
