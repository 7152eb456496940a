"""Decodes every video of both data sets, and reports what is wrong with them.

- missing: listed in the index, but there is no such file.
- broken: cannot be decoded, or a record's checksum is wrong.
- damaged: used, although some frames are lost or the decoder concealed errors.
- short: fewer frames than a clip spans, so that a clip repeats frames.
- frame rate: far from the median, so that motion has another speed; or unknown, unless
  all are. If clips are sampled by `fps`: too low for it, so that frames repeat; or
  unknown.
- duplicate: the same pictures as another video, of this set or of the other. A test
  on videos that were trained on measures nothing.
- unused: in the folder, but not read (hidden, of another suffix, in no class folder).
"""

from __future__ import annotations

import dataclasses
import statistics
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from trainers.core import files
from trainers.core.errors import UserError
from trainers.core.progress import ProgressBar
from trainers.video_classification.data import VideoError
from trainers.video_classification.data.inspection import VideoFacts, inspect_video
from trainers.video_classification.data.samples import decoding_threads

REPORT_FILE = "check_data.json"
_SETS = ("train_data", "validation_data")
_ODD_RATE = 1.25  # times the median, or the median over this
_MAX_LISTED = 20
# In the order of the report; a set with one of the first three is not fit for use.
PROBLEMS = {
    "missing": "missing",
    "broken": "broken",
    "in_other_set": "in both data sets",
    "duplicate": "twice in the data set",
    "damaged": "some frames damaged",
    "short": "shorter than a clip",
    "frame_rate": "odd frame rate",
    "unused": "not used",
}
_SERIOUS = ("missing", "broken", "in_other_set")


@dataclasses.dataclass
class SetReport:
    """What was found in one data set.

    Attributes:
        input_path: Of the set.
        num_videos: Length of the index, missing videos included.
        num_frames: Of all videos that could be decoded.
        hours: Of these, as far as their frame rates are known.
        frame_rate: Median.
        problems: Problem -> path of a video -> description.
    """

    input_path: str
    num_videos: int
    num_frames: int
    hours: float
    frame_rate: float
    problems: dict[str, dict[str, str]]


def run(task, model_dir: str = "", as_json: bool = False) -> int:
    """Checks the data sets of a task, and prints a report.

    Args:
        task: `VideoClassificationTask`.
        model_dir: If given, the report is also written there, as `check_data.json`.
        as_json: Print JSON instead of a table.

    Returns:
        Exit code: 1 if a video is missing, broken, or in both data sets.

    Raises:
        UserError: Neither data set has an `input_path`, or an index cannot be read.
    """
    reports = check(task)
    content = {name: dataclasses.asdict(report) for name, report in reports.items()}
    print(files.to_json(content) if as_json else format_reports(reports))
    if model_dir:
        files.write_json(files.join(model_dir, REPORT_FILE), content)
    found = (report.problems[key] for report in reports.values() for key in _SERIOUS)
    return int(any(found))


def check(task) -> dict[str, SetReport]:
    """Decodes all videos of the data sets of a task: `SetReport` by data set."""
    config = task.task_config
    indexes = {
        name: task.train_index if name == "train_data" else task.validation_index
        for name in _SETS
        if getattr(config, name).input_path
    }
    if not indexes:
        raise UserError(
            "Nothing to check: set task.train_data.input_path, "
            "task.validation_data.input_path or both."
        )
    facts, broken = _inspect_all(indexes, config)
    duplicates = _duplicates(indexes, facts)
    return {
        name: _report(index, config.clip, facts[name], broken[name], duplicates[name])
        for name, index in indexes.items()
    }


def _inspect_all(indexes, config):
    """(facts, errors), both by data set and path."""
    facts: dict[str, dict[str, VideoFacts]] = {name: {} for name in indexes}
    broken: dict[str, dict[str, str]] = {name: {} for name in indexes}
    jobs = [
        (name, path)
        for name, index in indexes.items()
        for path in dict.fromkeys(video.path for video in index.videos)
    ]

    def inspect(job):
        name, path = job
        try:
            data = getattr(config, name)
            options = data.decoder, data.limits, data.frame_rate
            facts[name][path] = inspect_video(path, *options)
        except VideoError as error:
            broken[name][path] = error.reason

    threads = decoding_threads(config.train_data)
    bar = ProgressBar("check", total=len(jobs), unit="video")
    pool = ThreadPoolExecutor(threads)
    try:
        for _ in pool.map(inspect, jobs):
            bar.advance()
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)
    return facts, broken


def _duplicates(indexes, facts):
    """Problem -> path -> description, for each data set."""
    labels = {
        (name, video.path): _label(video, index)
        for name, index in indexes.items()
        for video in index.videos
    }
    places = defaultdict(list)
    for name, videos in facts.items():
        for path, found in sorted(videos.items()):
            places[found.digest].append((name, path))
    problems = {name: {"in_other_set": {}, "duplicate": {}} for name in indexes}
    for same in places.values():
        for place in same:
            for other in same:
                if other == place:
                    continue
                kind = "duplicate" if other[0] == place[0] else "in_other_set"
                text = f"the same as {other[1]} ({other[0]}, {labels[other]})"
                problems[place[0]][kind].setdefault(place[1], text)
    return problems


def _label(video, index) -> str:
    names = [index.class_names[label] for label in video.labels]
    return "+".join(names) or "no class"


def _report(index, clip, facts, broken, duplicates) -> SetReport:
    rates = [found.frame_rate for found in facts.values() if found.frame_rate]
    median = statistics.median(rates) if rates else 0.0
    problems = {
        "missing": dict.fromkeys(index.missing, "no such file"),
        "broken": broken,
        **duplicates,
        "damaged": {
            path: found.problem
            or f"{found.num_bad} of {found.num_frames} frames lost or concealed"
            for path, found in facts.items()
            if found.num_bad or found.problem
        },
        "short": {
            path: f"{found.num_frames} frames, a clip spans {span}"
            for path, found in facts.items()
            if found.num_frames < (span := _span(clip, found.frame_rate))
        },
        "frame_rate": {
            path: text
            for path, found in facts.items()
            if (text := _odd_rate(found.frame_rate, median, clip.fps))
        },
        "unused": index.unused,
    }
    return SetReport(
        input_path=index.path,
        num_videos=len(index) + len(index.missing),
        num_frames=sum(found.num_frames for found in facts.values()),
        hours=round(sum(found.seconds for found in facts.values()) / 3600, 4),
        frame_rate=round(median, 3),
        problems={
            key: {
                path: index.named(path, why)
                for path, why in sorted(problems[key].items())
            }
            for key in PROBLEMS
        },
    )


def _span(clip, frame_rate: float) -> int:
    """Number of frames from the first of a clip to its last; 0 if it is unknown."""
    if clip.fps and not frame_rate:
        return 0
    return round((clip.num_frames - 1) * clip.stride_at(frame_rate)) + 1


def _odd_rate(rate: float, median: float, fps: float | None) -> str:
    """What is odd about a frame rate: of clips of `fps`, only one below it.

    Rates of extracted frames are unknown; if all are, a stride treats all the same.
    """
    if not rate:
        return "unknown" if fps or median else ""
    if fps:
        return (
            f"{rate:g} frames/s, clips have {fps:g}" if rate < fps / _ODD_RATE else ""
        )
    is_usual = median / _ODD_RATE <= rate <= median * _ODD_RATE
    return "" if is_usual else f"{rate:g} frames/s, the median is {median:g}"


def format_reports(reports: dict[str, SetReport]) -> str:
    """A table with a column for each data set, then the videos with problems."""
    rows = [("", list(reports))]
    rows.append(("videos", [str(r.num_videos) for r in reports.values()]))
    rows.append(("frames", [str(r.num_frames) for r in reports.values()]))
    rows.append(("hours", [f"{r.hours:.2f}" for r in reports.values()]))
    rows.append(("frames/s (median)", [f"{r.frame_rate:g}" for r in reports.values()]))
    for key, title in PROBLEMS.items():
        rows.append((title, [str(len(r.problems[key])) for r in reports.values()]))
    lines = [
        f"{title:<22}" + "".join(f"{value:>17}" for value in values)
        for title, values in rows
    ]
    for key, title in PROBLEMS.items():
        for name, report in reports.items():
            lines += _listed(f"{name}, {title}:", report.problems[key])
    return "\n".join(lines)


def _listed(title: str, videos: dict[str, str]) -> list[str]:
    if not videos:
        return []
    lines = (f"  {path}: {text}" for path, text in list(videos.items())[:_MAX_LISTED])
    shown = list(map(files.printable, lines))
    more = len(videos) - len(shown)
    rest = [f"  ... and {more} more (--json lists all)"] if more else []
    return ["", title, *shown, *rest]
