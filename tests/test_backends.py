"""What keras_nonlocal promises, on the backends that the trainers do not use."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

PORTABLE = (
    "tests/ops",
    "tests/layers",
    "tests/models",
    "tests/parity",
    "tests/test_receptive_field.py",
    "tests/test_visualize.py",
)


@pytest.mark.backends
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_portable_tests_pass(backend):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed: pip install -e '.[backends]'")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *PORTABLE],
        cwd=pathlib.Path(__file__).parents[1],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    print(done.stdout[-10000:])
    assert done.returncode == 0
