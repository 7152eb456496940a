"""Runs the modes of `trainers/video.py`, in this process or as a command."""

import os
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[2] / "trainers" / "video.py"
CLASSES = ("blue", "green", "red")  # of the videos of conftest.py


def start(config, model_dir, *overrides):
    command = [sys.executable, SCRIPT, "--config", config, "--model_dir", model_dir]
    command += [f"--params_override={override}" for override in overrides]
    return subprocess.Popen(
        [*command, "--mode", "train_and_eval"],
        cwd=config.parent,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    try:
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    return output, errors


def run(mode, model_dir, *overrides, **options):
    """Runs a mode in this process; returns the exit code."""
    from trainers.video_classification import modes

    files = [str(options.pop("config"))] if "config" in options else []
    return modes.run(
        mode,
        modes.Options(
            model_dir=str(model_dir),
            config_files=tuple(files),
            overrides=("runtime.deterministic=false", *overrides),
            **options,
        ),
    )
