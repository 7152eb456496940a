"""The memory that recomputation and accumulation save, in a separate process."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.slow
def test_memory_is_that_of_one_block_and_of_one_part():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment |= {"MALLOC_MMAP_THRESHOLD_": "131072"}  # what is freed is given back
    output = subprocess.run(
        [sys.executable, "-m", "tests.trainers.core.memory"],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        timeout=600,
    ).stdout
    recomputed, in_parts, plain, at_once = map(float, output.split())
    assert recomputed < plain / 3  # the ends and one block of eight: a fourth
    assert in_parts < at_once / 3  # one part of eight, and the batch
