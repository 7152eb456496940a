"""Predicts the most probable classes of videos, over all views.

Each video, a file or a folder of frames, is cut into the views of
`validation_data.test_protocol`, and the class probabilities are aggregated over them as
in evaluation. A video that cannot be read does not end the run.
"""

import os
import sys
from concurrent import futures

import numpy as np
import tensorflow as tf

from trainers.core import files
from trainers.core.errors import UserError
from trainers.video_classification.data import VideoError, normalize, read_views
from trainers.video_classification.data.decoding.frame_folder import has_frames
from trainers.video_classification.data.paths import FrameFolder, has_video_suffix
from trainers.video_classification.evaluation import AGGREGATIONS
from trainers.video_classification.scoring import build_scorer, inference_form

# Views in the network at once: thirty of 32x256x256 do not fit in every memory.
_VIEWS_PER_STEP = 5


def predict(task, model, paths, top_k=5):
    """Most probable classes of each video.

    Args:
        task: Task the model was trained for: clips, test views, class names.
        model: Keras model from normalised clips to logits, weights loaded.
        paths: Video files, folders of frames, or folders of these, which are searched
            recursively.
        top_k: Number of classes to return, if there are as many.

    Returns:
        One dict per video, in order: `path` and either `predictions`, dicts of
        `class`, `label` and `score` by decreasing score, or `error`.

    Raises:
        UserError: No paths, or `top_k` below 1.
    """
    return list(_predictions(task, model, paths, top_k))


def run(task, model, paths, top_k=5, as_json=False):
    """Prints predictions as a table, video by video, or as one JSON document.

    Returns:
        Exit code: 0, or 1 if any video could not be predicted. Its error is printed
        to stderr, and is in the JSON document.
    """
    results = []
    for result in _predictions(task, model, paths, top_k):
        results.append(result)
        if "error" in result:
            error = f"error: {result['path']}: {result['error']}"
            print(files.printable(error), file=sys.stderr)
        elif not as_json:
            print(_table(result), flush=True)
    if as_json:
        print(files.to_json(results))  # in ASCII: any file name survives
    return int(any("error" in result for result in results))


def _predictions(task, model, paths, top_k):
    if not paths:
        raise UserError(
            "Nothing to predict. Give one or more video files or folders of them."
        )
    if top_k < 1:
        raise UserError(f"`top_k` must be at least 1. Received: top_k={top_k}.")
    score = build_video_scorer(task, model)
    data, clip = task.task_config.validation_data, task.task_config.clip

    def read(path, problem):
        return None if problem else read_views(path, data, clip)  # (V, T, H, W, 3)

    for (path, problem), views in _read_ahead(read, _find_videos(paths)):
        if problem is None:
            yield _predict_video(score, path, views, task.class_names, top_k)
        else:
            yield {"path": path, "error": problem}


def _read_ahead(read, items):
    """Yields each item with a future of what is read; the next is read meanwhile."""
    pool, previous = futures.ThreadPoolExecutor(1), None
    try:
        for item in items:
            current = item, pool.submit(read, *item)
            if previous:
                yield previous
            previous = current
        if previous:
            yield previous
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _find_videos(paths):
    """Yields (path, None) for each video, (path, problem) for folders without any."""
    for path in map(os.fspath, paths):
        if not os.path.isdir(path):
            yield path, None
            continue
        found = sorted(v for f, _, names in os.walk(path) for v in _videos_in(f, names))
        if not found:
            yield (
                path,
                "this folder holds no videos (.mp4, .avi, .mkv, .webm, ..., or "
                "folders of frames: img_00001.jpg, ...).",
            )
        yield from ((video, None) for video in found)


def _videos_in(folder, names):
    """The paths of the videos in a folder, or that of the folder if it has frames."""
    videos = [os.path.join(folder, name) for name in names if has_video_suffix(name)]
    if not videos and has_frames(folder):
        return [FrameFolder(folder.rstrip("/")).path]
    return videos


def build_video_scorer(task, model):
    """A function from the uint8 views of a video to its class probabilities.

    Args:
        task: See `predict`.
        model: See `predict`.

    Returns:
        A function from `(V, T, H, W, 3)` to `(classes,)`, both NumPy arrays.
    """
    config = task.task_config
    clip, data = config.clip, config.validation_data
    aggregate = AGGREGATIONS[config.evaluation.view_aggregation]
    scorer = build_scorer(inference_form(model), config)

    # Whole frames have many sizes: one graph for all, instead of one for each.
    @tf.function(reduce_retracing=data.protocol.whole_frame)
    def probabilities(views):
        return scorer(normalize(views, clip, tf.float32))[1]

    def score(views):
        starts = range(0, len(views), _VIEWS_PER_STEP)
        parts = [tf.constant(views[i : i + _VIEWS_PER_STEP]) for i in starts]
        scores = [probabilities(part) for part in parts]
        return aggregate(np.concatenate(scores), axis=0)

    return score


def _predict_video(score, path, views, class_names, top_k):
    try:
        scores = score(views.result())
    except VideoError as error:
        return {"path": path, "error": error.reason}
    if not np.isfinite(scores).all():
        return {"path": path, "error": "the network's scores are not finite."}
    best = np.argsort(-scores, kind="stable")[:top_k]
    predictions = [
        {"class": class_names[k], "label": int(k), "score": float(scores[k])}
        for k in best
    ]
    return {"path": path, "predictions": predictions}


def _table(result):
    rows = result["predictions"]
    width = max(len(row["class"]) for row in rows)
    lines = [f"  {row['class']:<{width}}  {row['score']:.3f}" for row in rows]
    return "\n".join(map(files.printable, [result["path"], *lines]))
