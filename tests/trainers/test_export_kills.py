"""Killed exports leave no half of a version, and nothing once the next has run."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from tests.trainers.runs import SCRIPT, finish, run
from trainers.core import files

# What an unfinished version has, in the order in which it is written.
STAGES = (".", "variables", "saved_model.pb", "assets.extra/export.json")
FILES = ("saved_model.pb", "assets/classes.txt", "assets.extra/export.json")


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "trained"
    run("train", folder, "trainer.train_steps=1", config=config)
    return folder


def start_export(model_dir):
    return subprocess.Popen(
        [sys.executable, SCRIPT, "--mode", "export", "--model_dir", model_dir],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(stage, process, folder):
    """Waits until an export has written a file of its new version."""
    old = set(folder.glob(".*"))
    deadline = time.monotonic() + 240
    while not any((part / stage).exists() for part in set(folder.glob(".*")) - old):
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kill_at(stage, process, folder, delay):
    """Kills an export `delay` seconds after a file of the new version is there."""
    wait_for(stage, process, folder)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1]
    assert "Traceback" not in errors and "error:" not in errors
    return process.returncode == -signal.SIGKILL


def assert_complete(version):
    for name in FILES:
        assert (version / name).stat().st_size > 0
    assert files.read_json(version / "assets.extra" / "export.json")["limits"]
    signatures = tf.saved_model.load(str(version)).signatures
    assert set(signatures) == {"serving_default", "jpeg", "features", "attention"}
    path = str(version / "assets.extra" / "tf_serving_warmup_requests")
    assert len(list(tf.data.TFRecordDataset(path))) == len(signatures)


def visible(folder):
    """What TF Serving sees: the numbered folders."""
    return sorted(name for name in os.listdir(folder) if name.isdecimal())


@pytest.mark.hostile
def test_4_kills_leave_no_half_of_a_version(trained):
    folder = pathlib.Path(trained, "export")
    chance = random.Random(0)
    killed = 0
    for stage in STAGES:
        process = start_export(trained)
        killed += kill_at(stage, process, folder, chance.uniform(0, 0.02))
        for name in visible(folder):
            assert_complete(folder / name)
    assert killed >= 3  # the last may have come too late
    assert len(os.listdir(folder)) > len(visible(folder))  # they left something
    before = visible(folder)
    output, _ = finish(start_export(trained))
    (new,) = set(visible(folder)).difference(before)
    assert f"Exported to {folder / new}" in output
    assert_complete(folder / new)
    assert sorted(os.listdir(folder)) == visible(folder)  # and nothing else


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(1, marks=pytest.mark.slow),
        pytest.param(20, marks=pytest.mark.hostile),
    ],
)
def test_kills_at_random_moments_leave_no_half_of_a_version(trained, count):
    folder = pathlib.Path(trained, "export")
    process = start_export(trained)
    wait_for(".", process, folder)
    start = time.monotonic()
    finish(process)
    seconds = time.monotonic() - start  # of writing, comparing and renaming
    chance, killed = random.Random(0), 0
    for _ in range(count):
        before = visible(folder)
        process = start_export(trained)
        is_killed = kill_at(".", process, folder, chance.uniform(0, 0.9) * seconds)
        killed += is_killed
        seconds *= 1.0 if is_killed else 0.5  # the machine is less loaded by now
        for name in set(visible(folder)).difference(before):
            assert_complete(folder / name)
    print(f"{killed} of {count} killed before they were done, within {seconds:.1f} s")
    assert killed >= count // 2  # others came too late
    finish(start_export(trained))
    assert sorted(os.listdir(folder)) == visible(folder)


@pytest.mark.hostile
def test_two_commands_at_the_same_time_export_two_versions(trained):
    folder = pathlib.Path(trained, "export")
    before = visible(folder) if folder.exists() else []
    for process in [start_export(trained) for _ in range(2)]:
        finish(process)
    new = set(visible(folder)).difference(before)
    assert len(new) == 2
    for name in new:
        assert_complete(folder / name)
    assert sorted(os.listdir(folder)) == visible(folder)
