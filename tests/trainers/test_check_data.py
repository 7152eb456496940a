"""`--mode check_data`: every problem is found by name, in videos and in records."""

import json
import os
import re
import shutil

import numpy as np
import pytest

from trainers.core.errors import UserError
from trainers.core.failures import FailureLog
from trainers.video_classification import check_data
from trainers.video_classification.configs import VideoClassificationConfig
from trainers.video_classification.data import VideoError, load_index, write_video
from trainers.video_classification.data.inspection import inspect_video
from trainers.video_classification.data.tfrecords.shards import write_shards
from trainers.video_classification.task import VideoClassificationTask

SPAN = 13  # frames of a clip of 4 x 4


def noise(seed, count=16, side=32):
    return np.random.default_rng(seed).integers(
        0, 256, (count, side, side, 3), np.uint8
    )


def fill(folder, first_seed):
    """Two classes of three videos."""
    for number, name in enumerate(("dive", "run")):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            seed = first_seed + 3 * number + i
            write_video(folder / name / f"v{i}.mp4", noise(seed))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Folders `train` and `val` without any problem."""
    root = tmp_path_factory.mktemp("data")
    fill(root / "train", 0)
    fill(root / "val", 100)
    return root


@pytest.fixture
def folder(sound, tmp_path):
    """A copy of `sound` to damage."""
    return shutil.copytree(sound, tmp_path / "data")


def task_of(train="", val=""):
    config = VideoClassificationConfig()
    config.clip.num_frames = config.clip.temporal_stride = 4
    config.train_data.input_path, config.validation_data.input_path = train, val
    return VideoClassificationTask(config)


def check(folder):
    return check_data.check(task_of(str(folder / "train"), str(folder / "val")))


def found(report):
    return {problem: videos for problem, videos in report.problems.items() if videos}


def test_sound_data_have_no_problems(sound, capsys):
    reports = check(sound)
    for report in reports.values():
        assert found(report) == {}
        assert (report.num_videos, report.num_frames) == (6, 96)
        assert report.frame_rate == 25 and report.hours == round(96 / 25 / 3600, 4)
    task = task_of(str(sound / "train"), str(sound / "val"))
    assert check_data.run(task) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["train_data", "validation_data"]
    assert table[1].split() == ["videos", "6", "6"]
    assert len(table) == 5 + len(check_data.PROBLEMS)


def test_every_problem_is_named(folder, capsys):
    train, val = folder / "train", folder / "val"
    (train / "dive/v0.mp4").write_text("not a video")
    write_video(train / "dive/v1.mp4", noise(50, count=SPAN - 1))
    write_video(train / "dive/v2.mp4", noise(51), fps=60)
    shutil.copy(train / "run/v0.mp4", val / "dive/v0.mp4")
    shutil.copy(train / "run/v1.mp4", train / "run/v2.mp4")
    reports = check(folder)
    train_found, val_found = (found(report) for report in reports.values())
    assert list(train_found["broken"]) == [str(train / "dive/v0.mp4")]
    assert train_found["short"] == {
        str(train / "dive/v1.mp4"): f"{SPAN - 1} frames, a clip spans {SPAN}"
    }
    assert train_found["frame_rate"] == {
        str(train / "dive/v2.mp4"): "60 frames/s, the median is 25"
    }
    assert train_found["in_other_set"] == {
        str(train / "run/v0.mp4"): (
            f"the same as {val / 'dive/v0.mp4'} (validation_data, dive)"
        )
    }
    assert set(train_found["duplicate"]) == {
        str(train / "run/v1.mp4"),
        str(train / "run/v2.mp4"),
    }
    assert set(val_found) == {"in_other_set"}
    assert check_data.run(task_of(str(train), str(val))) == 1
    printed = capsys.readouterr().out
    assert f"{train / 'dive/v2.mp4'}: 60 frames/s, the median is 25" in printed


def test_a_span_is_not_short(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        write_video(tmp_path / "train" / name / "x.mp4", noise(ord(name), count=SPAN))
    (report,) = check_data.check(task_of(str(tmp_path / "train"))).values()
    assert found(report) == {}


def test_missing_videos_are_named(folder):
    lines = ["run/v0.mp4 1", "dive/v1.mp4 0", "dive/none.mp4 0"]
    (folder / "train/list.txt").write_text("\n".join(lines))
    report = check_data.check(task_of(str(folder / "train/list.txt")))["train_data"]
    path = str(folder / "train/dive/none.mp4")
    assert found(report) == {"missing": {path: "no such file"}}
    assert report.num_videos == 3


def test_the_same_pictures_in_another_container_are_a_duplicate(tmp_path):
    lossless = {"codec": "ffv1", "pix_fmt": "yuv420p"}
    for split, suffix in (("train", "mkv"), ("val", "avi")):
        (tmp_path / split / "a").mkdir(parents=True)
        write_video(tmp_path / split / "a" / f"x.{suffix}", noise(1), **lossless)
    for report in check(tmp_path).values():
        assert len(found(report)["in_other_set"]) == 1


def test_a_changed_frame_is_no_duplicate(tmp_path):
    frames = noise(1)
    one = tmp_path / "1.mkv", tmp_path / "2.mkv"
    write_video(one[0], frames, codec="ffv1")
    frames[-1] += 1
    write_video(one[1], frames, codec="ffv1")
    digests = {inspect_video(str(path), "pyav").digest for path in one}
    assert len(digests) == 2


def test_checksums_of_shards_are_verified(sound, tmp_path):
    config = task_of(str(sound / "train")).task_config
    shards = tmp_path / "shards"
    write_shards(load_index(config.train_data), str(shards), num_shards=1, workers=1)
    (report,) = check_data.check(task_of(str(shards))).values()
    assert found(report) == {} and report.frame_rate == 25
    (shard,) = shards.glob("*.tfrecord")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    (report,) = check_data.check(task_of(str(shards))).values()
    (reason,) = report.problems["broken"].values()
    assert re.search(r"\((dive|run)/v\d\.mp4\)$", reason)


def test_files_that_are_not_used_are_listed(folder, capsys):
    train, content = folder / "train", (folder / "train/run/v0.mp4").read_bytes()
    reasons = {
        b"stray.mp4": "not in a class folder",
        b"run/noext": "no suffix of a video",
        b"run/list.m3u8": "no suffix of a video",
        b"run/.v.mp4": "hidden",
        b"run/\xff.mp4": "its name is not UTF-8",
    }
    expected = {}
    for name, reason in reasons.items():
        path = os.path.join(os.fsencode(train), name)
        with open(path, "wb") as file:
            file.write(content)
        expected[os.fsdecode(path)] = reason
    task = task_of(str(train))
    assert found(check_data.check(task)["train_data"]) == {"unused": expected}
    assert check_data.run(task) == 0
    printed = capsys.readouterr().out
    assert ["not", "used", "5"] in map(str.split, printed.splitlines())
    assert f"{train}/run/\\udcff.mp4: its name is not UTF-8" in printed
    assert check_data.run(task, as_json=True) == 0


def test_control_characters_in_names_are_escaped(folder, capsys, caplog):
    (folder / "train/run/a\x1b[31m\nb.mp4").write_text("not a video")
    failures, path = FailureLog(1), str(folder / "train/run/a\x1b[31m\nb.mp4")
    failures.record(path, "why")
    with pytest.raises(VideoError) as error:
        inspect_video(path, "pyav")
    assert check_data.run(task_of(str(folder / "train"))) == 1
    for text in (capsys.readouterr().out, caplog.text, str(error.value)):
        assert "a\\x1b[31m\\nb.mp4: " in text and "\x1b" not in text


def test_an_empty_file_is_called_empty(folder):
    path = folder / "train/run/v0.mp4"
    path.write_bytes(b"")
    report = check_data.check(task_of(str(folder / "train")))["train_data"]
    assert report.problems["broken"] == {str(path): "is empty"}


def test_the_report_is_json_too(folder, tmp_path, capsys):
    (folder / "train/dive/v0.mp4").write_text("not a video")
    task = task_of(str(folder / "train"), str(folder / "val"))
    assert check_data.run(task, str(tmp_path), as_json=True) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / check_data.REPORT_FILE).read_text())
    broken = printed["train_data"]["problems"]["broken"]
    assert list(broken) == [str(folder / "train/dive/v0.mp4")]


def test_nothing_to_check_is_an_error():
    with pytest.raises(UserError, match=r"set task\.train_data\.input_path"):
        check_data.check(task_of())
