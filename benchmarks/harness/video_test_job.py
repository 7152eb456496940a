"""What the subjects of `video_test.py` have in common: views of videos, figures."""

import json
import pathlib
import time
from typing import NamedTuple

import numpy as np

from harness.input_subject import cpu_seconds
from harness.networks import Case
from harness.process import Made, status_mib

PROTOCOLS = {"PySlowFast": "pyslowfast", "mmaction2": "mmaction2"}  # of the loops


class Views(NamedTuple):
    """The views of a video: clips x crops.

    `frames` are the frame numbers (clips, T); `places` the crops' `(top, left)` in
    frames scaled to `height` x `width`.
    """

    frames: list
    height: int
    width: int
    places: list


class Job(NamedTuple):
    """What is tested, as JSON."""

    case: Case  # `side` is that of the test crops
    train_side: int  # of the crops on whose maps the classifier averages
    stride: int
    clips: int  # of a video
    crops: int  # of a clip
    folder: str  # of one class; all its files are videos
    views: dict  # by protocol of a loop, and by place of the video
    protocols: list  # of the probabilities of `predict`
    weights: str | None  # a file, for ours
    batch: int  # views at once, of PySlowFast's loop
    workers: int
    count: int  # videos in a run of ours

    @classmethod
    def read(cls, path):
        job = cls(**json.loads(pathlib.Path(path).read_text()))
        views = {
            protocol: [Views(*views) for views in videos]
            for protocol, videos in job.views.items()
        }
        return job._replace(case=Case(*job.case), views=views)

    def write(self, path):
        path.write_text(json.dumps(self._asdict()))

    @property
    def num_views(self):
        return self.clips * self.crops

    @property
    def videos(self):
        return sorted(map(str, pathlib.Path(self.folder).rglob("*.*")))


def views_of(args, protocol, path):
    """The `Views` of a protocol, found by our code, which its tests compare with it."""
    from trainers.video_classification.data import reading
    from trainers.video_classification.data.configs import ClipConfig, DataConfig
    from trainers.video_classification.data.views import TestViews

    data = DataConfig(
        test_protocol=protocol,
        min_short_side=args.side,
        crop_size=args.side,
        num_test_clips=args.num_clips,
        num_test_crops=args.num_crops,
    )
    clip = ClipConfig(num_frames=args.frames, temporal_stride=args.stride)
    plan, video = TestViews(data, clip), reading.open_frames(path, data.decoder)
    frames = reading.plan_frames(path, video, plan)
    _, picture = next(iter(video.pictures(np.array([0]))))
    windows = plan.windows(*picture.size)
    places = [(window.top, window.left) for window in windows]
    return Views(frames.tolist(), windows[0].height, windows[0].width, places)


def made(run, values):
    """A subject whose `run()` scores views, and returns how many videos they make."""

    def measure():
        cpu, wall = cpu_seconds(), time.perf_counter()
        videos = run()
        seconds, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
        times = {"video ms": 1e3 * seconds, "video CPU ms": 1e3 * cpu}
        times = {name: value / videos for name, value in times.items()}
        return times | {"process MiB": status_mib("VmHWM")}

    return Made({}, lambda: list(map(np.float32, values())), measure=measure)
