"""An exported network answers any request with the right shapes, or with an error."""

import collections
import random

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.mutated_requests import mutated, valid_requests
from tests.trainers.test_export import CLASSES, make_model, make_task
from trainers.video_classification import export

LIMITS = {
    "max_frames": 8,
    "max_frame_bytes": 50_000,
    "max_frame_pixels": 40_000,
    "max_request_pixels": 100_000,
    "max_positions": 6,
}
ERRORS = (tf.errors.InvalidArgumentError, TypeError, ValueError)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    model = make_model(non_local={"res3": [0]})
    folder = tmp_path_factory.mktemp("export")
    version = export.export_saved_model(make_task(limits=LIMITS), model, folder)
    return tf.saved_model.load(version)


def answer(loaded, signature, inputs):
    inputs = {
        name: tf.constant(x.tolist(), tf.string, x.shape)
        if x.dtype == object
        else tf.constant(x)
        for name, x in inputs.items()
    }
    outputs = loaded.signatures[signature](**inputs)
    return {name: x.numpy() for name, x in outputs.items()}


def check_shapes(signature, inputs, outputs):
    batch = len(
        next(iter(inputs.values() if signature != "attention" else [inputs["clips"]]))
    )
    if signature == "features":
        assert outputs["features"].shape == (batch, 128)
    elif signature == "attention":
        scores, keys = outputs["res3_0_nonlocal"], outputs["res3_0_nonlocal_keys"]
        assert scores.shape[:2] == (batch, len(inputs["positions"]))
        assert keys.shape == (*scores.shape[1:], 3)
        np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-4)
    else:
        for name in ("logits", "probabilities", "classes", "scores"):
            assert outputs[name].shape == (batch, len(CLASSES))
    assert all(np.isfinite(x).all() for x in outputs.values() if x.dtype == np.float32)


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(100, marks=pytest.mark.slow),
        pytest.param(1000, marks=pytest.mark.hostile),
    ],
)
def test_mutated_requests_are_answered_or_refused(loaded, count):
    requests, chance = valid_requests(), random.Random(0)
    outcomes = collections.Counter()
    for _ in range(count):
        signature, inputs = mutated(requests, chance)
        try:
            outputs = answer(loaded, signature, inputs)
        except ERRORS:
            outcomes["refused"] += 1
            continue
        check_shapes(signature, inputs, outputs)
        outcomes["answered"] += 1
    assert min(outcomes["refused"], outcomes["answered"]) > count / 10
    for signature, inputs in requests.items():  # and it still answers
        check_shapes(signature, inputs, answer(loaded, signature, inputs))
