"""Averages and precise statistics in `trainers/video.py`, from training to export."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.runs import run
from trainers.core import checkpoints
from trainers.core.config import load_experiment
from trainers.video_classification import modes

pytestmark = pytest.mark.slow
OPTIONS = (
    "trainer.optimizer_config.ema.average_decay=0.75",
    "trainer.precise_batch_norm.num_batches=2",
    "trainer.validation_interval=2",
    "runtime.deterministic=true",
)


@pytest.fixture(scope="module")
def runs(config, tmp_path_factory):
    """Two trainings of four steps: `whole`, and `resumed` after two."""
    folder = tmp_path_factory.mktemp("runs")
    for name, steps in (("whole", (4,)), ("resumed", (2, 4))):
        for num in steps:
            length = f"trainer.train_steps={num}"
            run("train_and_eval", folder / name, *OPTIONS, length, config=config)
    return folder


def results(folder):
    return json.loads((folder / "eval_results.json").read_text())


def tensors(folder):
    """All variables of the last checkpoint and of the statistics beside it."""
    readers = [
        tf.train.load_checkpoint(str(folder / name))
        for name in ("ckpt-4", "ckpt-4.statistics")
    ]
    return {
        name: reader.get_tensor(name)
        for reader in readers
        for name in reader.get_variable_to_shape_map()
        if name.endswith("VARIABLE_VALUE")
    }


def test_a_resumed_training_ends_with_the_same_bits(runs):
    whole, resumed = tensors(runs / "whole"), tensors(runs / "resumed")
    assert whole.keys() == resumed.keys()
    groups = {name.partition("/")[0] for name in whole}
    assert groups >= {"model", "optimizer", "average", "statistics"}
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)
    assert results(runs / "whole") == results(runs / "resumed")


def test_eval_gives_the_results_of_the_evaluation_in_training(runs, capsys):
    in_training = results(runs / "whole")
    one_view = "task.validation_data.test_protocol=one_view"
    run("eval", runs / "whole", one_view, checkpoint="last")
    again = results(runs / "whole")
    assert again["weights"] == in_training["weights"]
    loss = in_training["validation_loss"]
    assert again["validation_loss"] == pytest.approx(loss, rel=1e-5)
    assert "ckpt-4: averaged weights, precise statistics" in capsys.readouterr().err


def test_the_export_has_the_weights_that_were_evaluated(runs, tmp_path):
    folder = runs / "whole"
    run("export", folder, checkpoint="last", export_dir=str(tmp_path))
    _, experiment = load_experiment([str(folder / "params.yaml")])
    model = modes.build_task(experiment, ("blue", "green", "red")).build_model()
    checkpoints.restore_model(model, str(folder / "ckpt-4"))
    values = tensors(folder)
    for path, variable in checkpoints.by_path(model.variables).items():
        key = path.replace("/", ".S") + "/.ATTRIBUTES/VARIABLE_VALUE"
        groups = ("average", "statistics", "model")
        group = next(x for x in groups if f"{x}/{key}" in values)
        np.testing.assert_array_equal(variable.numpy(), values[f"{group}/{key}"])
        assert group == "model" or (values[f"model/{key}"] != variable.numpy()).any()
    clips = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    logits = served(clips=tf.constant(clips))["logits"].numpy()
    clip = experiment.task.clip
    pixels = (np.float32(clips) - np.float32(clip.mean)) / np.float32(clip.std)
    np.testing.assert_allclose(
        logits, model(pixels, training=False), rtol=1e-3, atol=1e-4
    )
