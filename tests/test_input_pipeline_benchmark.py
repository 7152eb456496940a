"""The benchmark of the input pipeline runs, and sees wrong clips."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from trainers.video_classification.data import write_video

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"
SCRIPT = BENCHMARKS / "input_pipeline.py"
SMALL = "--quick --frames 4 --short-side 32 40 --crop 28 --workers 1 --no-peers".split()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A gradient that moves, so that its frames are told apart."""
    path = tmp_path_factory.mktemp("benchmark") / "moving.mp4"
    across = np.arange(64) * 3 + np.zeros((48, 1), int)
    frames = (np.roll(across, 5 * n, axis=1)[..., None] for n in range(12))
    frames = (frame.repeat(3, -1).astype(np.uint8) for frame in frames)
    write_video(str(path), frames, options={"crf": "10"})
    return path


def run(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_our_clips_are_those_of_the_reference(video):
    done = run(*SMALL, "--clips", video)  # ends with 1 if they are not
    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if "| ours |" in line]
    name, _, speed, ratio, *_ = row.strip("| ").split(" | ")
    assert (name, ratio) == ("moving.mp4", "1.00")
    assert float(speed) > 0


def test_clips_that_are_not_there_are_named(tmp_path):
    done = run(*SMALL, "--clips", tmp_path / "gone")
    assert done.returncode == 1
    assert "gone: no such file" in done.stderr and "Traceback" not in done.stderr


def test_another_clip_is_told_from_the_reference(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("input_pipeline", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from harness.input_clips import SIZES, _moving_texture

    frames = _moving_texture(SIZES["340x256"])
    first, _, third = (next(frames) for _ in range(3))
    assert module.compare(first, first)[0] > 90
    assert module.compare(third, first)[0] < module.LEAST_PSNR
    psnr, mean = module.compare(first, np.clip(first + 2.0, 0, 255).astype(np.uint8))
    assert psnr == pytest.approx(20 * np.log10(255 / 2), abs=0.2)
    assert mean == pytest.approx(-2, abs=0.05)
