"""Shards from an Apache Beam pipeline. Needs apache-beam."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import uuid

import pytest

from tests.trainers.data.record_files import SETTINGS
from trainers.core import files
from trainers.core.errors import UserError
from trainers.video_classification.data import DataError, load_index
from trainers.video_classification.data.tfrecords import beam
from trainers.video_classification.data.tfrecords.shards import write_shards

# Beam's import looks for parts of Google's client libraries that are not needed.
pytestmark = pytest.mark.filterwarnings("ignore::ImportWarning")
ROOT = pathlib.Path(__file__).resolve().parents[3]


def contents(folder):
    folder = str(folder)
    return {
        name: files.read_bytes(files.join(folder, name))
        for name in files.listdir(folder)
    }


def test_without_beam_the_error_names_the_extra(index, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[beam\]'"):
        write_shards(index, str(tmp_path / "records"), **SETTINGS, beam_options=[])


def test_options_need_the_pipeline(tmp_path):
    process = prepare(tmp_path, tmp_path / "out", "--beam_pipeline_options=a=b")
    assert "has no effect without --beam" in process.communicate()[1]
    assert process.returncode == 1


def prepare(videos, folder, *flags):
    command = [sys.executable, ROOT / "trainers" / "prepare_video.py"]
    command += [f"--input_path={videos}", f"--output_dir={folder}", *flags]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.beam
@pytest.mark.parametrize("where", ["local", "remote"])
def test_the_shards_are_those_of_local_processes(index, shards, tmp_path, where):
    folder = tmp_path / "beam" if where == "local" else f"ram://{uuid.uuid4().hex}/out"
    summary = write_shards(index, str(folder), **SETTINGS, beam_options=[])
    assert summary.num_written == len(index)
    assert contents(folder) == contents(shards)
    again = write_shards(index, str(folder), **SETTINGS, beam_options=["runner=none"])
    assert again == summary  # all is done: no pipeline is run


@pytest.mark.beam
def test_broken_videos_are_reported(tmp_path, video_folder, data_config):
    folder = shutil.copytree(video_folder, tmp_path / "videos")
    (folder / "jump" / "v1.mp4").write_text("not a video")
    index = load_index(data_config(input_path=str(folder)))
    summaries = [
        write_shards(index, str(tmp_path / name), **SETTINGS, beam_options=options)
        for name, options in (("local", None), ("beam", []))
    ]
    assert summaries[0] == summaries[1]
    assert list(summaries[1].left_out) == [str(folder / "jump" / "v1.mp4")]
    assert contents(tmp_path / "local") == contents(tmp_path / "beam")


@pytest.mark.beam
def test_a_full_disk_is_an_error_and_finished_shards_are_kept(
    small_disk, index, tmp_path
):
    whole = tmp_path / "whole"
    settings = SETTINGS | {"num_shards": 9}
    write_shards(index, str(whole), **settings)
    folder = small_disk(sum(map(len, contents(whole).values())) // 2)
    with pytest.raises(
        DataError, match="failed: /.*No space left.*Finished shards are kept"
    ):
        write_shards(index, str(folder), **settings, beam_options=[])
    found = contents(folder)
    expected = contents(whole)
    assert found and all(found[name] == expected[name] for name in found)


@pytest.mark.beam
def test_a_killed_run_leaves_no_half_shard_and_is_continued(tmp_path, clips):
    videos, folder = tmp_path / "videos", tmp_path / "out"
    for name in "abcdefgh":
        (videos / name).mkdir(parents=True)
        clips.write(videos / name / "v.mp4", 300)
    flags = ("--num_shards=8", "--short_side=48")
    process = prepare(videos, tmp_path / "whole", *flags)
    assert (process.communicate(), process.returncode)[1] == 0
    expected = contents(tmp_path / "whole")
    process = prepare(videos, folder, *flags, "--beam")
    while process.poll() is None and len(list(folder.glob("clips-*.json"))) < 2:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {n: v for n, v in contents(folder).items() if not n.endswith(".part")}
    assert 0 < len(kept) < len(expected)
    assert all(expected[name] == content for name, content in kept.items())
    times = {name: os.stat(folder / name).st_mtime_ns for name in kept}
    output, errors = (
        process := prepare(videos, folder, *flags, "--beam")
    ).communicate()
    assert process.returncode == 0, errors
    assert f"8 videos written to {folder}" in output
    assert contents(folder) == expected
    done = [n for n in kept if n.endswith(".json")]
    assert all(os.stat(folder / name).st_mtime_ns == times[name] for name in done)


def _raise(element):
    raise ValueError(f"cannot use {element}")


@pytest.mark.beam
def test_an_error_of_a_worker_is_named():
    with pytest.raises(DataError, match="failed: cannot use 3 Finished shards"):
        beam.for_each([3], _raise, [])
    with pytest.raises(DataError, match="pipeline failed: .*nowhere"):
        beam.for_each([3], _raise, ["runner=nowhere"])
