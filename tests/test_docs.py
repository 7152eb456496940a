"""The README and the pages of docs/: their Python runs, their commands exist."""

import contextlib
import functools
import importlib
import importlib.util
import io
import itertools
import os
import pathlib
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
import tomllib

import numpy as np
import pytest

from tests.convert.files import samples
from tests.parity import seeded

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = "benchmarks configs docs examples keras_nonlocal tests trainers".split()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
PROGRAMS = ("python", "make", "pip", "pytest")


def blocks(text, language):
    """The fenced blocks in a language, also those within lists."""
    pattern = rf"^( *)```{language}\n(.*?)^\1```$"
    found = re.findall(pattern, text, flags=re.M | re.S)
    return [textwrap.dedent(body) for _, body in found]


def commands(text):
    """The commands of shell blocks, then those in the text, each a list of words."""
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    lines += [span for span in spans if span.split()[0] in PROGRAMS]
    words = [shlex.split(line, comments=True) for line in lines]
    return [command for command in words if len(command) > 1]


COMMANDS = [
    (page, shlex.join(command)) for page in PAGES for command in commands(PAGES[page])
]
PYTHON = [page for page in PAGES if blocks(PAGES[page], "python")]


# === Python ===


@pytest.mark.parametrize("page", PYTHON)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    names = {}
    for number, code in enumerate(blocks(PAGES[page], "python")):
        exec(compile(code, f"{page}, block {number}", "exec"), names)
    if page == "README.md":
        assert tuple(names["scores"].shape) == (2, 1568, 392)


def test_blocks_for_other_projects_compile():
    """Blocks marked `py`, not `python`, need PySlowFast, mmaction2 or GluonCV."""
    for page in PAGES:
        for code in blocks(PAGES[page], "py"):
            assert re.search("slowfast|mmaction|gluoncv", code)
            compile(code, page, "exec")


def test_the_readme_is_a_front_page():
    assert PAGES["README.md"].count("\n") <= 180


# === Names in the text ===


@pytest.mark.parametrize("page", PAGES)
def test_files_named_exist(page):
    named = re.findall(rf"\b(?:{'|'.join(FOLDERS)})/[\w./-]*[\w/]", PAGES[page])
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_config_keys_named_exist(page):
    pattern = r"`((?:task|trainer|runtime)\.[\w.]+\w)(=[^`]*)?`"
    for key, value in re.findall(pattern, PAGES[page]):
        given = value and not value[1:].isupper()  # not a placeholder
        config = experiment([key + value] if given else [])
        *parents, field = key.split(".")
        assert hasattr(functools.reduce(getattr, parents, config), field), key


# === Commands ===


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_exist(page, command):
    program, *words = shlex.split(command)
    if program == "make":
        check_make(words)
    elif program == "pip":
        check_pip(words)
    elif program == "python":
        check_python(words)
    elif program == "pytest":
        check_pytest(words)


def experiment(overrides, files=()):
    """The config of an experiment; unknown keys are errors."""
    from trainers.core.config import load_experiment

    for task in TASKS.values():  # registers its experiments
        importlib.import_module(f"trainers.{task}.experiments")
    return load_experiment(files, overrides, None if files else "kinetics400")[1]


def check_make(words):
    makefile = (ROOT / "Makefile").read_text()
    for word in words:  # TARGET or VARIABLE=value
        name, is_variable, _ = word.partition("=")
        end = r" \?=" if is_variable else ":"
        assert re.search(rf"^{name}{end}", makefile, flags=re.M)


def check_pip(words):
    extras = set(project()["project"]["optional-dependencies"])
    for named in re.findall(r"\.\[(.*?)\]", " ".join(words)):
        assert set(named.split(",")) <= extras


def check_pytest(words):
    markers = project()["tool"]["pytest"]["ini_options"]["markers"]
    for flag, marker in itertools.pairwise(words):
        assert flag != "-m" or any(line.startswith(f"{marker}:") for line in markers)
    for path in (word for word in words if word.startswith("tests/")):
        assert (ROOT / path.split("::")[0]).exists()


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def check_python(words):
    """The script or module exists and has these flags; configs and keys exist."""
    script = words[1] if words[0] == "-m" else words[0]
    flags = {word.strip("[").split("=")[0] for word in words if "--" in word}
    network = words[2:3] if script == "keras_nonlocal.describe" else ()
    known = help_of(script, *network)  # each network has its own flags
    assert not flags or flags <= set(re.findall(r"--[\w-]+", known))
    if words[0] != "-m":
        assert (ROOT / script).is_file()
    if script in TASKS:
        check_trainer(TASKS[script], words[1:])


def main_of(module):
    """The `main` of a command."""
    if module.endswith(".__main__"):
        return importlib.import_module(module).main
    # An import would hide the function of the same name.
    return runpy.run_module(module)["main"]


@functools.cache
def help_of(script, *network):
    """What `--help` prints; in this process where that saves an import of Keras."""
    if script.startswith("keras_nonlocal."):
        is_package = importlib.util.find_spec(script).submodule_search_locations
        name = f"{script}.__main__" if is_package else script
        with contextlib.redirect_stdout(io.StringIO()) as text:
            with pytest.raises(SystemExit):
                main_of(name)([*network, "--help"])
        return text.getvalue()
    command = [sys.executable, ROOT / script, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    return done.stdout.replace("--[no]", "--")


TASKS = {
    "trainers/video.py": "video_classification",
    "trainers/detection.py": "detection",
}


def check_trainer(task, words):
    modes = importlib.import_module(f"trainers.{task}.modes")
    options = dict(zip(words, words[1:], strict=False))
    assert options["--mode"] in (*modes.MODES, "MODE")
    if options.get("--config") == "mine.yaml":  # which the page describes
        return
    start = "--params_override="
    overrides = [word.removeprefix(start) for word in words if word.startswith(start)]
    files = [str(ROOT / options["--config"])] if "--config" in options else []
    experiment(overrides, files)


@pytest.mark.parametrize(
    ("page", "module", "printed"),
    [
        ("docs/models.md", "keras_nonlocal.describe", "GMAC"),
        ("docs/layers.md", "keras_nonlocal.estimate", "linear"),
    ],
)
def test_commands_of_costs_run_as_written(page, module, printed, capsys):
    for words in commands(PAGES[page]):
        assert words[:3] == ["python", "-m", module]
        assert main_of(module)(words[3:]) == 0
        assert printed in capsys.readouterr().out


# === As a reader runs them, at reduced size ===

FEWER_STEPS = ["trainer.train_steps=2", "trainer.validation_interval=2"]


@pytest.mark.slow
def test_your_own_clips_as_written(tmp_path):
    """All commands of the README's section, in its order, on clips made here."""
    from trainers.video_classification.data import write_video

    random = np.random.default_rng(0)
    for folder in ("train/juggling", "train/dancing", "val/juggling", "val/dancing"):
        path = tmp_path / "clips" / folder / "x.mp4"
        path.parent.mkdir(parents=True)
        frames = random.integers(0, 256, (32, 120, 160, 3), np.uint8)
        write_video(str(path), frames)
    section = re.search(
        r"^## Your own clips.*?(?=^## )", PAGES["README.md"], re.M | re.S
    )
    outputs = [run_in(tmp_path, command) for command in commands(section[0])]
    assert re.search(r"in both data sets +0 +0\n", outputs[0])
    assert (tmp_path / "runs/mine/best").is_dir()
    assert (tmp_path / "runs/mine/export/1/saved_model.pb").is_file()
    for output in outputs[2], outputs[4]:
        assert "juggling" in output and "dancing" in output


@pytest.mark.slow
def test_conversions_as_written(tmp_path):
    """The commands of docs/weights.md, on weights and logits of PySlowFast."""
    network = seeded.read("pyslowfast", "I3D_NLN_8x8_R50")
    size = "8x224x224"
    for name in ("checkpoint_epoch_00118.pyth", "weights.pyth"):
        (tmp_path / name).write_bytes(samples.torch_zip(network.state))
    names = [f"class {label}" for label in range(400)]
    (tmp_path / "kinetics400.txt").write_text("\n".join(names))
    recorded = {"clip": seeded.clip(size), "logits": network.outputs[size]}
    np.savez(tmp_path / "recorded.npz", **recorded)
    outputs = []
    for words in commands(PAGES["docs/weights.md"]):
        if words[:3] == ["python", "-m", "keras_nonlocal.convert"]:
            (tmp_path / "i3d.keras").unlink(missing_ok=True)
            outputs.append(run_in(tmp_path, words))
            assert (tmp_path / "i3d.keras").is_file()
    assert len(outputs) == 2 and "logits" in outputs[1]


def run_in(folder, words):
    """What a command prints in a folder that has the repository's beside it."""
    for name in FOLDERS:
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    if "--config" in words:
        words = words + [f"--params_override={setting}" for setting in FEWER_STEPS]
    done = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
