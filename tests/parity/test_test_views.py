"""Test protocols against what the projects' own code samples and cuts."""

import pathlib

import numpy as np
import pytest

from trainers.video_classification.data.configs import ClipConfig, DataConfig
from trainers.video_classification.data.views import TestViews

RECORDED = np.load(pathlib.Path(__file__).with_name("test_views.npz"))
PROJECTS = ("pyslowfast", "mmaction2", "video_nonlocal_net")
CASES = [
    pytest.param(*key.split("/"), id=key)
    for key in RECORDED.files
    if "/" in key and key.split("/")[0] in PROJECTS
]


def views_of(project, clip="8x8", **settings):
    data = DataConfig(is_training=False)
    data.set_test_protocol(project)
    data.override(settings)
    data.check()
    num_frames, stride = map(int, clip.split("x"))
    return TestViews(data, ClipConfig(num_frames=num_frames, temporal_stride=stride))


def frames_cases():
    return [case for case in CASES if case.values[1] == "frames"]


def rates_cases():
    return [case for case in CASES if case.values[1] == "rates"]


@pytest.mark.parametrize("project, kind, clip, rate", rates_cases())
def test_pyslowfast_samples_by_time(project, kind, clip, rate):
    views = views_of(project, clip)
    recorded = RECORDED[f"{project}/{kind}/{clip}/{rate}"]
    for length, frames in zip(RECORDED["lengths"], recorded, strict=True):
        own = views.frames(int(length), float(rate))
        np.testing.assert_array_equal(own, frames, str(length))


@pytest.mark.parametrize("project", ["mmaction2", "video_nonlocal_net"])
def test_the_others_do_not(project):
    views = views_of(project)
    np.testing.assert_array_equal(views.frames(300, 15.0), views.frames(300))


def test_fifty_lengths_and_all_projects_are_recorded():
    assert len(set(RECORDED["lengths"].tolist())) == 50
    assert {case.values[0] for case in CASES} == set(PROJECTS)


@pytest.mark.parametrize("project, kind, clip, count", frames_cases())
def test_frame_numbers_are_those_of_the_project(project, kind, clip, count):
    views = views_of(project, clip, num_test_clips=int(count))
    recorded = RECORDED[f"{project}/{kind}/{clip}/{count}"]
    for length, frames in zip(RECORDED["lengths"], recorded, strict=True):
        np.testing.assert_array_equal(views.frames(int(length)), frames, str(length))


@pytest.mark.parametrize(
    "project, kind, side, crop, count",
    [case for case in CASES if case.values[1] == "crops"],
)
def test_crops_are_those_of_the_project(project, kind, side, crop, count):
    views = views_of(
        project,
        min_short_side=int(side),
        crop_size=int(crop),
        num_test_crops=int(count),
    )
    recorded = RECORDED[f"{project}/{kind}/{side}/{crop}/{count}"]
    for size, crops in zip(RECORDED["sizes"].tolist(), recorded.tolist(), strict=True):
        windows = views.windows(*size)
        if min(map(min, crops)) < 0:  # the project's own code fails
            assert project == "video_nonlocal_net"
            assert min(windows[0].height, windows[0].width) == int(side)
            continue
        got = [[w.height, w.width, w.top, w.left] for w in windows]
        assert got == crops, size
        assert {w.shape for w in windows} == {(int(crop), int(crop))}


def test_the_projects_differ_where_they_are_known_to():
    frames = {name: views_of(name).frames(300) for name in PROJECTS}
    assert frames["pyslowfast"][1].tolist() == [23, 32, 41, 50, 59, 68, 77, 86]
    assert frames["mmaction2"][1].tolist() == [27, 35, 43, 51, 59, 67, 75, 83]
    assert frames["mmaction2"][-1, -1] == 299
    wrapped = [270, 278, 286, 294, 2, 10, 18, 26]
    assert frames["video_nonlocal_net"][-1].tolist() == wrapped
