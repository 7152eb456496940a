"""Evaluation and prediction run convolutions fused with their biases and ReLUs."""

import contextlib

import numpy as np
import pytest
import yaml
from tensorflow.python.eager import context

from trainers.video_classification import modes
from trainers.video_classification.data import write_video

SIDE = 32


@contextlib.contextmanager
def collected_ops():
    """Context that gives the set of operations of all graphs run in it, optimised."""
    found = set()
    context.enable_graph_collection()
    try:
        yield found
        graphs = context.export_run_metadata().function_graphs
        found.update(
            n.op for graph in graphs for n in graph.post_optimization_graph.node
        )
    finally:
        context.context().disable_graph_collection()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    random = np.random.default_rng(0)
    for name in ("dive", "run"):
        (folder / name).mkdir()
        frames = random.integers(0, 256, (8, SIDE, SIDE, 3), np.uint8)
        write_video(folder / name / "x.mp4", frames)
    return folder


@pytest.fixture(scope="module")
def options(videos, tmp_path_factory):
    data = {
        "input_path": str(videos),
        "global_batch_size": 2,
        "min_short_side": SIDE,
        "max_short_side": SIDE,
        "crop_size": SIDE,
    }
    values = {
        "experiment": "video_classification",
        "task": {
            "model": {"name": "i3d", "depth": 14, "width": 4},
            "clip": {"num_frames": 4, "temporal_stride": 2},
            "train_data": data,
            "validation_data": data,
            "report_videos": 0,  # whose graphs are fused, too
        },
        "trainer": {"train_steps": 1, "validation_interval": 1},
    }
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return modes.Options(
        model_dir=folder / "model",
        config_files=(str(folder / "config.yaml"),),
        paths=(str(videos / "run" / "x.mp4"),),
    )


@pytest.fixture(scope="module")
def training_ops(options):
    """The operations of one training step and the evaluation after it."""
    with collected_ops() as found:
        modes.run("train_and_eval", options)
    return found


def test_evaluation_in_training_is_fused(training_ops):
    assert "_FusedConv3D" in training_ops
    assert "Conv3DBackpropFilterV2" in training_ops  # the step is among the graphs


@pytest.mark.parametrize("mode", ["eval", "predict"])
def test_evaluation_and_prediction_are_fused(training_ops, options, mode):
    with collected_ops() as found:
        modes.run(mode, options)
    assert "_FusedConv3D" in found and "FusedBatchNormV3" not in found
