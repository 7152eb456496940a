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
    "tests/convert/test_load.py",
    "tests/convert/test_sources.py",
    "tests/convert/test_inflation_of_images.py",
    "tests/parity",
    "tests/test_receptive_field.py",
    "tests/test_visualize.py",
)

# What the default tier skips where PyTorch is not installed.
COMPARED_WITH_PYTORCH = (
    "tests/models/test_resnet.py",
    "tests/convert",
    "tests/parity",
    "tests/trainers/test_init_checkpoint.py",
    "tests/test_benchmarks.py",
)


@pytest.mark.backends
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_portable_tests_pass(backend):
    run_tests(backend, PORTABLE)


@pytest.mark.backends
def test_the_models_on_tensorflow_equal_pytorch():
    if not importlib.util.find_spec("torch"):
        pytest.skip("torch is not installed: pip install -e '.[backends]'")
    run_tests("tensorflow", COMPARED_WITH_PYTORCH)


def run_tests(backend, paths):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed: pip install -e '.[backends]'")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *paths],
        cwd=pathlib.Path(__file__).parents[1],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    print(done.stdout[-10000:])
    assert done.returncode == 0
