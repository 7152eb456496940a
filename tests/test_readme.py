"""The README's Python runs, and the files that it names exist."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_blocks_run(code):
    exec(compile(code, "README.md", "exec"), {})


def test_the_scores_have_the_shape_the_readme_says():
    names = {}
    exec(PYTHON[0], names)
    assert tuple(names["scores"].shape) == (2, 1568, 392)


def test_files_named_exist():
    named = re.findall(r"(?:configs|trainers|examples|docs)/[\w./-]+\.\w+", TEXT)
    named += re.findall(r"(?:benchmarks|tests)/[\w./-]+\.\w+", TEXT)
    assert len(named) > 5
    missing = [name for name in named if not (ROOT / name).is_file()]
    assert not missing


def test_make_targets_named_exist():
    targets = re.findall(r"(?:`|^)make ([a-z-]+)", TEXT, flags=re.M)
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
