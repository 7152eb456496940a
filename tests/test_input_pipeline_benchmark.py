"""The benchmark of the input pipeline runs, and detects wrong clips."""

import importlib
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
    """A moving gradient, so that its frames can be distinguished."""
    path = tmp_path_factory.mktemp("benchmark") / "moving.mp4"
    across = np.arange(64) * 3 + np.zeros((48, 1), int)
    frames = (np.roll(across, 5 * n, axis=1)[..., None] for n in range(12))
    frames = (frame.repeat(3, -1).astype(np.uint8) for frame in frames)
    write_video(str(path), frames, options={"crf": "10"})
    return path


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("input_pipeline")


@pytest.mark.slow
def test_our_clips_are_those_of_the_reference(video):
    done = subprocess.run(
        [sys.executable, SCRIPT, *SMALL, "--clips", str(video)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr  # exit status 1 if clips are wrong
    (row,) = [line for line in done.stdout.splitlines() if "| ours |" in line]
    name, _, speed, ratio, *_ = row.strip("| ").split(" | ")
    assert (name, ratio) == ("moving.mp4", "1.00")
    assert float(speed.split()[0]) > 0


def test_clips_that_are_not_there_are_named(benchmark, monkeypatch, tmp_path):
    options = [*SMALL, "--clips", str(tmp_path / "gone")]
    monkeypatch.setattr(sys, "argv", ["input_pipeline.py", *options])
    with pytest.raises(SystemExit, match="^error: .*gone: no such file"):
        list(benchmark.sources(benchmark.parse_arguments()))


def test_another_clip_differs_from_the_reference(benchmark):
    from harness.input_clips import VIDEOS, _moving_texture

    frames = _moving_texture(VIDEOS["340x256"].size)
    first, _, third = (next(frames) for _ in range(3))
    assert benchmark.compare(first, first)[0] > 90
    assert benchmark.compare(third, first)[0] < benchmark.LEAST_PSNR
    changed = np.clip(first + 2.0, 0, 255).astype(np.uint8)
    psnr, mean = benchmark.compare(changed, first)
    assert psnr == pytest.approx(20 * np.log10(255 / 2), abs=0.2)
    assert mean == pytest.approx(2, abs=0.05)
