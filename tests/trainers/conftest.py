"""Disks that are small or read-only, mounted for a test; a small data set."""

import shutil
import subprocess

import numpy as np
import pytest

from tests.trainers.runs import CLASSES


@pytest.fixture
def small_disk(tmp_path):
    """Function that mounts an empty disk of some bytes, and gives its folder.

    Skips the test where this process may not mount file systems.
    """
    mounted = []

    def mount(num_bytes):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", folder)
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def make_read_only():
    """Function that makes a disk of `small_disk` read-only."""
    return lambda folder: _mount("-o", "remount,ro", folder)


def _mount(*arguments):
    command = shutil.which("mount")
    if command is None or subprocess.run([command, *arguments]).returncode:
        pytest.skip("this process may not mount a disk")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Folders of three classes told apart by colour, one file of each broken."""
    from trainers.video_classification.data import write_video

    folder = tmp_path_factory.mktemp("videos")
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for channel, name in enumerate(reversed(CLASSES)):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                frames = random.integers(0, 90, (12, 40, 48, 3), np.uint8)
                frames[..., channel] += 120
                write_video(str(folder / split / name / f"{i}.mp4"), frames)
        (folder / split / "red" / "text.mp4").write_text("not a video")
    return folder


@pytest.fixture(scope="module")
def config(videos, tmp_path_factory):
    data = {
        "global_batch_size": 4,
        "min_short_side": 32,
        "max_short_side": 36,
        "crop_size": 32,
        "max_broken_fraction": 0.5,
    }
    values = {
        "experiment": "video_classification",
        "task": {
            "model": {
                "name": "i3d",
                "depth": 14,
                "width": 4,
                "non_local": {"res2": [0]},
            },
            "clip": {"num_frames": 4, "temporal_stride": 2},
            "train_data": {**data, "input_path": str(videos / "train")},
            "validation_data": {
                **data,
                "input_path": str(videos / "val"),
                "num_test_clips": 2,
            },
            "report_videos": 0,  # takes seconds of every training
        },
        "trainer": {
            "train_steps": 60,
            "steps_per_loop": 10,
            "checkpoint_interval": 4,
            "validation_interval": 30,
            "optimizer_config": {
                "learning_rate": {"constant": {"learning_rate": 0.02}}
            },
        },
        "runtime": {"deterministic": True},
    }
    import yaml  # which the tier `tfio` has not

    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path
