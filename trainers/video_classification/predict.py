"""Predicts the classes of videos, or of each window of long videos and live input.

Each video, a file or a folder of frames, is cut into the views of
`validation_data.test_protocol`, and the class probabilities are aggregated over them as
in evaluation. With `--window` each window is cut as if it were a video of its own. A
video that cannot be read does not end the run.
"""

import collections
import contextlib
import functools
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from trainers.core import files
from trainers.core.errors import UserError
from trainers.core.progress import ProgressBar
from trainers.core.signals import StopRequest
from trainers.video_classification import predictors, timeline
from trainers.video_classification.ahead import Ahead
from trainers.video_classification.data import VideoError, read_views
from trainers.video_classification.data.decoding import is_live
from trainers.video_classification.data.samples import decoding_threads
from trainers.video_classification.data.windows import (
    Segment,
    SlidingWindow,
    live_windows,
    read_windows,
)
from trainers.video_classification.prediction_folder import (
    is_done,
    output_folder,
    outputs,
)
from trainers.video_classification.prediction_inputs import Video, find_videos

_SCORERS = 2  # threads; between the operations of one, the other uses the cores


def check(options) -> None:
    """Raises `UserError` for flags that contradict one another, or the paths.

    Args:
        options: `modes.Options`.
    """
    options.check("predict")
    live = [path for path in map(os.fspath, options.paths) if is_live(path)]
    if live and len(options.paths) > 1:
        raise UserError(f"{live[0]} is live input: give it alone.")
    if live and options.window is None:
        raise UserError(f"{live[0]} is live input: give --window, in seconds.")
    if live and "mp4" in options.outputs:
        raise UserError(
            f"{live[0]} is live input, whose frames come once: --outputs=mp4 needs a "
            "file. Record it, and predict the recording."
        )


def run_exported(options) -> int:
    """`run` with the network in `export_dir`."""
    check(options)  # before the network is loaded
    predictor = predictors.of_export(options.export_dir, bool(options.features))
    return run(predictor, options)


def run(predictor, options) -> int:
    """Prints predictions, video by video, and writes them to `output_dir`.

    Args:
        predictor: `predictors.Predictor`.
        options: `modes.Options`: its `paths` are video files, folders of frames,
            folders of these, which are searched recursively, patterns of these, or
            one live input.

    Returns:
        Exit code: 0, or 1 if any video could not be predicted. Its error is printed
        to stderr, and is in the JSON.

    Raises:
        UserError: Contradicting options, or another folder's settings.
    """
    check(options)
    videos = find_videos(options.paths, options.output_dir)
    with contextlib.ExitStack() as stack:
        if options.output_dir:
            stack.enter_context(output_folder(predictor, options, videos))
        if is_live(videos[0].path):
            return _run_live(predictor, options, videos[0])
        new = [video for video in videos if not is_done(video, options)]
        if len(new) < len(videos):
            done = len(videos) - len(new)
            print(f"{done} of {len(videos)} videos were done before.", file=sys.stderr)
        return _run_files(predictor, options, new)


def _run_files(predictor, options, videos) -> int:
    bar = ProgressBar("predict", sum(v.size for v in videos), unit="kB", leave=False)
    predictions = _Predictions(predictor, options, bar)
    pool = ThreadPoolExecutor(_SCORERS, "scorer")
    found = _read_ahead(videos, predictor, options, pool)
    try:
        for video, segments in found:
            predictions.add(video, segments)
    finally:
        found.close()
        pool.shutdown(wait=False, cancel_futures=True)
        bar.close()
    return predictions.finish()


def _run_live(predictor, options, video) -> int:
    bar = ProgressBar("predict", unit="window", leave=False)
    items = _with_scores(
        _read(video, predictor, options),
        lambda views: functools.partial(predictor.score, views),
    )
    found = Ahead(items, options.queue or 1, drops_oldest=options.queue > 0)
    predictions = _Predictions(predictor, options, bar, lambda: found.dropped)
    with StopRequest() as stop:
        try:
            predictions.add(video, _until(stop, found))
        finally:
            found.close()
            bar.close()
    if found.dropped:
        print(
            f"warning: {found.dropped} windows were dropped: the network is slower "
            "than the input. Raise --step, or --queue for short peaks; with --queue=0 "
            "the input waits.",
            file=sys.stderr,
        )
    return predictions.finish()


def _until(stop: StopRequest, found: Ahead) -> Iterator:
    while not stop.signum and (items := found.take(seconds=0.2)) is not None:
        yield from items


# === Read ===


def _read_ahead(videos, predictor, options, pool) -> Iterator[tuple[Video, Ahead]]:
    """Yields videos with what `_with_scores` gives; the next are read meanwhile."""
    waiting, started = iter(videos), collections.deque()
    most = 1 + decoding_threads(predictor.data)

    def start(views):
        return pool.submit(predictor.score, views).result

    try:
        while True:
            for video in itertools.islice(waiting, most - len(started)):
                items = _with_scores(_read(video, predictor, options), start)
                started.append((video, Ahead(items, size=1)))
            if not started:
                return
            yield started[0]
            started.popleft()[1].close()
    finally:
        for _, segments in started:
            segments.close()


def _read(video: Video, predictor, options) -> Iterator:
    """Yields the segments of a video, and last its error, if any."""
    try:
        if video.problem:
            raise VideoError(video.path, video.problem)
        yield from _segments(video.path, predictor, options)
    except VideoError as error:
        yield error


def _with_scores(items: Iterable, start: Callable) -> Iterator[tuple]:
    """Yields segments with a function that gives their scores; without views, None."""
    for item in items:
        has_views = isinstance(item, Segment) and item.views is not None
        yield item, start(item.views) if has_views else None


def _segments(path: str, predictor, options) -> Iterable[Segment]:
    if options.window is None:
        views = read_views(path, predictor.data, predictor.clip, predictor.plan)
        return [Segment(None, None, views)]
    step = options.window if options.step is None else options.step
    read = live_windows if is_live(path) else read_windows
    window = SlidingWindow(options.window, step)
    return read(path, predictor.data, predictor.plan, window)


# === Predict ===


class _Predictions:
    """Prints and writes the scores of segments.

    Args:
        predictor: `Predictor`.
        options: `modes.Options`.
        bar: Progress.
        dropped: Function that counts the windows of live input that were dropped.
    """

    def __init__(self, predictor, options, bar, dropped: Callable | None = None):
        self._predictor, self._options = predictor, options
        self._bar, self._dropped = bar, dropped
        self._results, self._failed = [], False

    def add(self, video: Video, segments: Iterable) -> None:
        """Writes what `_with_scores` gives of a video; its errors are printed."""
        shown = 0
        try:
            with self._writing(video) as write:
                for segment, scores in segments:
                    if isinstance(segment, VideoError):
                        raise segment
                    record = self._record(video, segment, scores, write)
                    self._print(record)
                    done = int(video.size * segment.fraction)
                    self._bar.advance(1 if self._dropped else max(done - shown, 0))
                    shown = max(done, shown)
        except VideoError as error:
            self._fail(video, error.reason)
        except files.FileError as error:
            self._fail(video, str(error))

    def _writing(self, video: Video):
        if not self._options.output_dir:
            return contextlib.nullcontext(lambda record, features: None)
        from trainers.video_classification.annotation import annotate

        paths, data = outputs(video, self._options), self._predictor.data
        return timeline.writing(paths, functools.partial(annotate, video.path, data))

    def _record(self, video: Video, segment: Segment, scores, write) -> dict:
        record, features = {"path": video.path}, None
        if segment.start is not None:
            times = round(segment.start, 3), round(segment.end, 3)
            record |= {"start": times[0], "end": times[1]}
        if self._dropped:
            record["dropped"] = self._dropped()
        try:
            found, features = self._ranked(video, segment, scores)
            record |= found
        except VideoError as error:
            if segment.start is None:
                raise
            self._failed = True
            record["error"] = error.reason
        write(record, features)
        return record

    def _ranked(self, video: Video, segment: Segment, compute: Callable | None):
        """The best classes, for the record, and the features or None."""
        if segment.error:
            raise VideoError(video.path, segment.error)
        scores, features = compute()
        if not np.isfinite(scores).all():
            raise VideoError(video.path, "the network's scores are not finite.")
        best = np.argsort(-scores, kind="stable")[: self._options.top_k]
        names = self._predictor.class_names
        rows = [
            {"class": names[k], "label": int(k), "score": float(scores[k])}
            for k in best
        ]
        return {**rows[0], "predictions": rows}, features

    def _print(self, record: dict) -> None:
        if "error" in record:
            where = f"{record['path']}: {record['start']:g} to {record['end']:g} s"
            _print_error(f"{where}: {record['error']}")
        if not self._options.as_json:
            if "error" not in record:
                self._bar.write(_table(record))
        elif "start" in record:
            self._bar.write(json.dumps(record))
        else:
            self._results.append(record)

    def _fail(self, video: Video, reason: str) -> None:
        self._failed = True
        _print_error(f"{video.path}: {reason}")
        record = {"path": video.path, "error": reason}
        if self._options.as_json and self._options.window is not None:
            self._bar.write(json.dumps(record))
        self._results.append(record)

    def finish(self) -> int:
        """Prints the JSON document, if results are in one; returns the exit code."""
        if self._options.as_json and self._options.window is None:
            print(files.to_json(self._results))  # in ASCII: any file name survives
        return int(self._failed)


def _print_error(text: str) -> None:
    print(f"error: {files.printable(text)}", file=sys.stderr)


def _table(record: dict) -> str:
    if "start" in record:
        where = f"{record['path']}  {record['start']:9.2f} {record['end']:9.2f}"
        best = "  ".join(
            f"{r['class']} {r['score']:.3f}" for r in record["predictions"]
        )
        return files.printable(f"{where}  {best}")
    rows = record["predictions"]
    width = max(len(row["class"]) for row in rows)
    lines = [f"  {row['class']:<{width}}  {row['score']:.3f}" for row in rows]
    return "\n".join(map(files.printable, [record["path"], *lines]))
