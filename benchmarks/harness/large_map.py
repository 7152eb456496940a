"""A training step of a block on a large map, in a process that runs nothing else.

    python -m harness.large_map MODE DTYPE TxHxWxC

prints [seconds, peak MiB of the whole process] as JSON. `measure` starts it.
"""

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from harness.block_conventions import CONVENTIONS
from harness.block_subjects import keras_steps, our_layer
from harness.machine import use_all_threads
from harness.measure import peak_of_process
from harness.processes import be_killed_first, run_module

LONG = 10  # seconds; in a longer first call, tracing is negligible


def measure(mode, dtype, shape):
    """[seconds, MiB or None] of one step; None if the process ran out of memory.

    Args:
        mode: Of the block.
        dtype: `"float32"` or `"bfloat16"`.
        shape: `(frames, height, width, channels)`.
    """
    sizes = "x".join(map(str, shape))
    return run_module("harness.large_map", mode, dtype, sizes)


def main(mode, dtype, sizes):
    be_killed_first()
    use_all_threads("tensorflow")
    shape = (1, *map(int, sizes.split("x")))
    layer = our_layer(mode, CONVENTIONS["PySlowFast"], shape, dtype)
    rng = np.random.default_rng(0)
    clip = [rng.standard_normal(shape, dtype="float32") for _ in ("x", "dz")]
    step = keras_steps(layer, layer.trainable_variables, *clip, dtype).training
    seconds = _seconds(step)  # with tracing
    if seconds < LONG:
        seconds = _seconds(step)
    print(json.dumps([seconds, peak_of_process()]))


def _seconds(step):
    start = time.perf_counter()
    results = step()
    seconds = time.perf_counter() - start
    if not all(np.isfinite(t).all() for t in results):
        sys.exit("a gradient is not finite")
    return seconds


if __name__ == "__main__":
    main(*sys.argv[1:])
