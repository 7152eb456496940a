"""The chain of configs/demo/chain_*.yaml: each stage starts where the last ended."""

import json

import pytest

from tests.trainers.recipes import CONFIGS, commands, flag
from tests.trainers.runs import run

pytestmark = pytest.mark.slow

# Six steps on few videos.
SMALL = ("task.train_data.global_batch_size=8", "trainer.train_steps=6")
UNCHANGED = (
    "trainer.train_steps=1",
    "trainer.optimizer_config.learning_rate.stepwise.values=[0, 0]",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from examples import demo_videos

    folder = tmp_path_factory.mktemp("chain")
    for split, count in (("train", 16), ("val", 12)):
        demo_videos.write_split(folder / "demo/videos", split, count)
    return folder


@pytest.fixture
def stage(folder, monkeypatch):
    """Function that runs the command in a header; returns the loss afterwards."""
    monkeypatch.chdir(folder)

    def run_stage(name, *overrides, model_dir=None):
        path = CONFIGS / "demo" / f"chain_{name}.yaml"
        (command,) = commands(path)
        model_dir = model_dir or flag(command, "model_dir")[0]
        overrides = ("task.report_videos=0", *overrides)
        run(flag(command, "mode")[0], model_dir, *overrides, config=path)
        return loss_of(model_dir)

    return run_stage


def loss_of(model_dir, *overrides):
    """Of the last checkpoint on the validation videos."""
    run("eval", model_dir, *overrides, checkpoint="last")
    with open(f"{model_dir}/eval_results.json") as file:
        return json.load(file)["validation_loss"]


LONG_CLIPS = ("task.clip.num_frames=16", "task.clip.temporal_stride=1")


def test_each_stage_starts_at_the_loss_where_the_last_ended(stage, capsys):
    stage("short", *SMALL)
    short_on_long = loss_of("runs/demo/chain_short", *LONG_CLIPS)
    long_start = stage("long", *UNCHANGED, model_dir="runs/long_start")
    assert long_start == pytest.approx(short_on_long, abs=1e-6)
    long_end = stage("long", *SMALL)
    assert long_end != long_start

    capsys.readouterr()
    blocks_start = stage("blocks", *UNCHANGED, model_dir="runs/blocks_start")
    assert "New, and checked to change nothing: res4_0_nonlocal" in (
        capsys.readouterr().err
    )
    assert blocks_start == long_end
    blocks_end = stage("blocks", *SMALL)
    assert blocks_end != blocks_start


def test_blocks_are_added_to_a_network_without_any(stage, capsys):
    none = "runs/none"
    stage("short", *SMALL, "task.model.non_local=null", model_dir=none)
    before = loss_of(none, *LONG_CLIPS)
    capsys.readouterr()
    start = f"task.init_checkpoint={none}"
    after = stage("blocks", *UNCHANGED, start, model_dir="runs/from_none")
    new = "New, and checked to change nothing: res3_0_nonlocal, res4_0_nonlocal"
    assert new in capsys.readouterr().err
    assert after == before
