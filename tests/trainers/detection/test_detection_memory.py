"""The memory of the parts of a training step, in a separate process."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]
# Freed blocks go back to the system at once.
RETURN = {"MALLOC_MMAP_THRESHOLD_": "131072", "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks are those of Linux")
def test_a_training_step_keeps_one_map_of_each_operation():
    output = subprocess.run(
        [sys.executable, "-m", "tests.trainers.detection.memory"],
        cwd=ROOT,
        env=os.environ | RETURN | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    ).stdout
    peaks = dict(line.split() for line in output.splitlines())
    mib = {name: float(peak) for name, peak in peaks.items()}
    assert mib["roi_align"] < 98  # the points; 125 with all of them
    assert mib["frozen_norms"] < 100  # 128 with the inputs
    assert mib["strided_convolutions"] < 110
    assert mib["weight_decay"] < 175  # 208 with another copy of the weights
