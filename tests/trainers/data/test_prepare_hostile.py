"""Records are written of damaged videos, of a very long one, and by killed runs."""

import contextlib
import itertools
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest

from tests.trainers.data import damage
from tests.trainers.data.record_files import SETTINGS
from trainers.video_classification.data import load_index, read_views, write_video
from trainers.video_classification.data.tfrecords.records import RecordFrames
from trainers.video_classification.data.tfrecords.shards import write_shards

ROOT = pathlib.Path(__file__).resolve().parents[3]
_SEED = 10


def contents(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


# === Damaged videos ===


def check_damaged(tmp_path, data_config, numbers, workers):
    """Writes shards of damaged videos; returns how many of them could be used."""
    folder = tmp_path / "videos" / "a"
    folder.mkdir(parents=True)
    sources = damage.write_sources(tmp_path)
    for number in numbers:
        damage.write_damaged(sources, folder, _SEED, number)
    index = load_index(data_config(input_path=str(tmp_path / "videos")))
    assert len(index) == len(numbers)
    settings = SETTINGS | dict(workers=workers)
    summary = write_shards(index, str(tmp_path / "records"), **settings)
    records = load_index(data_config(input_path=str(tmp_path / "records")))
    written = {str(tmp_path / "videos" / video.name) for video in records.videos}
    every = {video.path for video in index.videos}
    assert written | summary.left_out.keys() == every
    assert written.isdisjoint(summary.left_out)
    assert summary.damaged.keys() <= written
    assert all(summary.left_out.values())
    for video in records.videos:
        frames = RecordFrames(video.path)
        found = [p.size for _, p in frames.pictures(np.arange(frames.num_frames))]
        assert len(found) == frames.num_frames and len(set(found)) == 1
    return len(written)


def test_damaged_videos_are_left_out_by_name(tmp_path, data_config):
    assert 10 <= check_damaged(tmp_path, data_config, range(30), workers=1) < 30


@pytest.mark.hostile
def test_two_hundred_damaged_videos_are_left_out_by_name(tmp_path, data_config):
    before, start = peak_memory(), time.monotonic()
    written = check_damaged(tmp_path, data_config, range(1000, 1200), workers=1)
    seconds = time.monotonic() - start
    print(f"{written} of 200 in {seconds:.0f} s, {peak_memory():.0f} MiB")
    assert 60 <= written < 200 and seconds < 60
    assert peak_memory() - before < 1024


# === Killed runs ===


@pytest.fixture
def command(tmp_path, clips):
    """Function: command that writes twelve shards to a folder."""
    for n in range(12):
        (tmp_path / "videos" / f"class{n % 2}").mkdir(parents=True, exist_ok=True)
        path = tmp_path / "videos" / f"class{n % 2}" / f"{n}.mp4"
        clips.write(path, 60 + n, height=240, width=320)

    def make(folder, workers):
        return [
            sys.executable,
            str(ROOT / "trainers" / "prepare_video.py"),
            f"--input_path={tmp_path / 'videos'}",
            f"--output_dir={folder}",
            "--num_shards=12",
            f"--workers={workers}",
        ]

    return make


def run_until(command, folder, seconds):
    """Runs a command, and kills it some time after it has begun to write."""
    token = uuid.uuid4().hex
    before = set(os.listdir(folder)) if os.path.isdir(folder) else set()
    with subprocess.Popen(
        command,
        env=os.environ | {"TEST_TOKEN": token},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None and not (
            os.path.isdir(folder) and set(os.listdir(folder)) - before
        ):
            time.sleep(0.005)
        time.sleep(seconds)
        was_running = process.poll() is None
        process.kill()
    deadline = time.monotonic() + 60
    while running(token) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not running(token), "workers outlive the run"
    return was_running


def running(token):
    """The processes that have a token in their environment."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if token.encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
    return found


@pytest.mark.hostile
def test_killed_runs_are_continued(tmp_path, command):
    subprocess.run(command(tmp_path / "whole", 2), check=True, capture_output=True)
    expected, folder = contents(tmp_path / "whole"), tmp_path / "killed"
    random, kills = np.random.default_rng(_SEED), 0
    for workers in (2, 1, 2, 1, 2):
        kills += run_until(command(folder, workers), folder, random.uniform(0, 0.6))
        left = contents(folder)
        assert len(left) < len(expected)
        for name, content in left.items():  # what has a name is complete
            assert name.endswith(".part") or content == expected[name]
    assert kills == 5
    subprocess.run(command(folder, 1), check=True, capture_output=True)
    assert contents(folder) == expected


def test_a_killed_run_is_continued(tmp_path, index, data_config):
    folder = tmp_path / "records"
    script = f"""
import os, signal, sys
from trainers.video_classification.data import load_index
from trainers.video_classification.data.configs import DataConfig
from trainers.video_classification.data.tfrecords import shards
written = []
def records(*arguments):
    yield from original(*arguments)
    written.append(arguments)
    if len(written) == 7:  # in the second shard
        os.kill(os.getpid(), signal.SIGKILL)
original, shards._records = shards._records, records
index = load_index(DataConfig(input_path={str(index.path)!r}))
shards.write_shards(index, {str(folder)!r}, **{SETTINGS})
"""
    process = subprocess.run([sys.executable, "-c", script], cwd=ROOT)
    assert process.returncode == -signal.SIGKILL
    left = contents(folder)
    assert sorted(name[:5] for name in left) == [".clip", *["clips"] * 3]
    write_shards(index, str(folder), **SETTINGS)
    write_shards(index, str(tmp_path / "whole"), **SETTINGS)
    assert contents(folder) == contents(tmp_path / "whole")
    assert left.items() - contents(folder).items() == {
        item for item in left.items() if item[0].endswith(".part")
    }


# === Videos beyond protobuf's limit ===


@pytest.mark.hostile
def test_a_video_of_more_than_two_gib_takes_little_memory(
    tmp_path, data_config, clip_config
):
    noise = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    settings = {"crf": "1", "preset": "ultrafast", "g": "100000"}
    (tmp_path / "videos" / "a").mkdir(parents=True)
    path = tmp_path / "videos" / "a" / "noise.mp4"
    write_video(path, itertools.repeat(noise, 1700), options=settings)
    index = load_index(data_config(input_path=str(tmp_path / "videos")))
    before = peak_memory()
    write_shards(
        index, str(tmp_path / "records"), short_side=720, quality=98, workers=1
    )
    (shard,) = (tmp_path / "records").glob("*.tfrecord")
    assert shard.stat().st_size > 2**31
    data = data_config(input_path=str(tmp_path / "records"), num_test_clips=2)
    (video,) = load_index(data).videos
    views = read_views(video.path, data, clip_config)
    assert views.shape[0] == 2 and views.std() > 2
    print(f"{peak_memory() - before:.0f} MiB beyond {before:.0f}")
    assert peak_memory() - before < 400


def peak_memory():
    """Of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
