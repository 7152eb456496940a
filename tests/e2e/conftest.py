"""Runs the command line in processes, as a user does."""

import os
import pathlib
import subprocess
import sys

import pytest
import yaml

SCRIPT = pathlib.Path(__file__).parents[2] / "trainers" / "video.py"


class Command:
    """`python trainers/video.py` in a folder; the last run's outcome is kept."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, mode, *arguments, model_dir="model"):
        flags = ["--mode", mode, "--model_dir", model_dir, *map(str, arguments)]
        done = subprocess.run(
            [sys.executable, SCRIPT, *flags],
            cwd=self.folder,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,  # a run that does not end is a failure
        )
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        return self

    def succeeds(self):
        assert self.code == 0, self.err[-3000:]
        return self

    def fails(self, *messages):
        """One `error:` with every message, no traceback, exit code 1."""
        assert self.code == 1, (self.out + self.err)[-3000:]
        assert "Traceback" not in self.err, self.err[-3000:]
        assert "error: " in self.err
        error = self.err[self.err.rindex("error: ") :]
        for message in messages:
            assert message in error, self.err[-3000:]
        return self


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    return Command(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="module")
def config(command):
    """Name of a config in the command's folder: `data/`, two steps, tiny clips."""
    data = {
        "global_batch_size": 2,
        "min_short_side": 36,
        "max_short_side": 40,
        "crop_size": 32,
        "max_broken_fraction": 0.5,
    }
    train = {**data, "input_path": "data/train"}
    test = {**data, "input_path": "data/val", "num_test_clips": 3, "num_test_crops": 3}
    test["views_in_training"] = "all"
    values = {
        "experiment": "video_classification",
        "task": {
            "model": {
                "name": "c2d",
                "depth": 14,
                "width": 4,
                "non_local": {"res3": [0]},
            },
            "clip": {"num_frames": 4, "temporal_stride": 2},
            "train_data": train,
            "validation_data": test,
        },
        "trainer": {"train_steps": 2, "steps_per_loop": 1, "validation_interval": 2},
    }
    (command.folder / "tiny.yaml").write_text(yaml.safe_dump(values))
    return "tiny.yaml"
