"""Warm-up requests are replayed before a version appears."""

import os

import numpy as np
import pytest
import tensorflow as tf

from trainers.core import export
from trainers.core.export import ExportError


class Root(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, "x")])
    def __call__(self, x):
        with tf.control_dependencies([tf.debugging.assert_less(x, 100.0, "large")]):
            return {"y": tf.sqrt(x)}


def write(export_dir, x):
    with export.next_version(export_dir) as (folder, version):
        root = Root()
        export.save(root, {"serving_default": root.__call__}, {"a.txt": "a"}, folder)
        export.write_warmup(folder, {"serving_default": {"x": np.float32([x])}})
        export.replay_warmup(folder, tf.saved_model.load(folder))
    return version


def test_a_version_that_answers_appears(tmp_path):
    assert os.listdir(write(tmp_path, 4.0) + "/assets.extra") == [
        "tf_serving_warmup_requests"
    ]


@pytest.mark.parametrize(
    ("x", "problem"),
    [(100.0, "fails at the warm-up request for `serving"), (-1.0, "not finite")],
)
def test_a_version_that_does_not_answer_does_not_appear(tmp_path, x, problem):
    with pytest.raises(ExportError, match=problem):
        write(tmp_path, x)
    assert os.listdir(tmp_path) == []
