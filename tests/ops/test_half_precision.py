"""Softmax of half precision: sums in float32, whatever kernel the processor has."""

import os
import subprocess
import sys

import numpy as np
import pytest
from keras import ops

from keras_nonlocal.ops.half_precision import softmax

UNIT = {"bfloat16": 2**-7, "float16": 2**-10}
NUM_KEYS = 6272


@pytest.mark.parametrize("dtype", UNIT)
def test_weights_are_those_of_float64_rounded_once(dtype):
    logits = 2 * np.random.default_rng(0).normal(size=(3, NUM_KEYS))
    logits = ops.cast(logits, dtype)
    exact = np.exp(ops.convert_to_numpy(ops.cast(logits, "float64")))
    exact /= exact.sum(-1, keepdims=True)
    weights = softmax(logits)
    assert weights.dtype == logits.dtype
    weights = ops.convert_to_numpy(ops.cast(weights, "float64"))
    np.testing.assert_allclose(weights, exact, rtol=0.6 * UNIT[dtype], atol=4e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting", ["TF_ENABLE_ONEDNN_OPTS=0", "ONEDNN_MAX_CPU_ISA=AVX2"]
)
def test_without_onednns_kernel(setting):
    name, value = setting.split("=")
    test = f"{__file__}::{test_weights_are_those_of_float64_rounded_once.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    subprocess.run(command, env={**os.environ, name: value}, check=True)
