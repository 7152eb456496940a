"""Runs recipes of `configs/` at reduced size, on data made up under their own paths."""

import importlib
import itertools
import os
import pathlib
import re
import runpy
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
_PACKAGES = {
    "trainers/video.py": "trainers.video_classification",
    "trainers/detection.py": "trainers.detection",
}


def of_script(name):
    """The recipes that a script of `trainers/` runs, as their headers say."""
    command = f"python trainers/{name} "
    return [x for x in sorted(CONFIGS.rglob("*.yaml")) if command in x.read_text()]


def named(path):
    return path.relative_to(CONFIGS).as_posix().removesuffix(".yaml")


def num_replicas(path):
    """The number of GPUs that the header names, at least 1."""
    found = re.search(r"(\d+) GPUs", path.read_text())
    return int(found.group(1)) if found else 1


def commands(path):
    """The commands in a header, as lists of arguments."""
    header = re.match(r"(#.*\n)+", path.read_text()).group()
    lines = re.sub(r"\\\n#", " ", header).splitlines()
    return [shlex.split(line[1:]) for line in lines if line.startswith("#   python ")]


def flag(command, name):
    """Values of `--name VALUE` and `--name=VALUE`."""
    after = [y for x, y in itertools.pairwise(command) if x == f"--{name}"]
    prefix = f"--{name}="
    return after + [x.removeprefix(prefix) for x in command if x.startswith(prefix)]


def load(path):
    """The experiment of a header's first command."""
    from trainers.core import config

    command = training_command(path)
    importlib.import_module(f"{_PACKAGES[command[1]]}.experiments")  # registers
    overrides = flag(command, "params_override")
    return config.load_experiment([str(path)], overrides)[1]


def training_command(path):
    """The first command in a header that trains."""
    return next(x for x in commands(path) if x[1] in _PACKAGES)


def run(path, folder, overrides):
    """Trains by the header's command, evaluates and exports; returns the model_dir.

    Args:
        path: Of the config.
        folder: Has the data and weights under the paths of the config.
        overrides: Added to those of the command.
    """
    for name in ("configs", "trainers"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    model_dir = folder / "models" / named(path)
    command = [*training_command(path)[1:], f"--model_dir={model_dir}"]
    command += [f"--params_override={x}" for x in overrides]
    done = subprocess.run(
        [sys.executable, __file__, *command],
        cwd=folder,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return model_dir


def _train_and_export(script, *flags):
    sys.argv = [script, *flags]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    modes = importlib.import_module(f"{_PACKAGES[script]}.modes")
    [*_, model_dir] = flag(flags, "model_dir")
    overrides = ("runtime.run_eagerly=false",)
    modes.run("export", modes.Options(model_dir=model_dir, overrides=overrides))


if __name__ == "__main__":
    _train_and_export(*sys.argv[1:])
