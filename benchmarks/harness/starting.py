"""A command in a new interpreter, and the small network that `predict` runs."""

import os
import pathlib
import resource
import subprocess
import sys
import time

from harness.process import Made

ROOT = pathlib.Path(__file__).parents[2]
TRAINERS = str(ROOT / "trainers")
_CLIPS = """
import numpy as np, pathlib
from trainers.video_classification.data import write_video
frames = np.random.default_rng(0).integers(0, 256, (24, 64, 80, 3), np.uint8)
for path in ("a.mp4", *(f"{s}/{c}/1.mp4" for s in ("train", "val") for c in "ab")):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames)
"""
_OVERRIDES = (
    "trainer.train_steps=1,task.train_data.input_path=train,"
    "task.validation_data.input_path=val,task.train_data.global_batch_size=2"
)


def make_network(folder):
    """Writes `a.mp4`, a model directory, `model`, and its export, `export`."""
    config = str(ROOT / "configs" / "demo" / "nl_c2d.yaml")
    video, model = f"{TRAINERS}/video.py", ("--model_dir", "model")
    train = ("--mode", "train", "--config", config, "--params_override", _OVERRIDES)
    export = ("--mode", "export", "--export_dir", "export")
    for command in (("-c", _CLIPS), (video, *model, *train), (video, *model, *export)):
        done = _run(folder, command)
        if done.returncode:
            sys.exit(done.stderr)


def make(folder, command):
    """A command, to be run in `folder`."""

    def measure():
        cpu, wall = _cpu_seconds(), time.perf_counter()
        _run(folder, command)
        wall = time.perf_counter() - wall
        return {"s": wall, "CPU s": _cpu_seconds() - cpu}

    return Made({"command": lambda: _run(folder, command)}, measure=measure)


def _run(folder, command):
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def _cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
