"""Real files of several kinds, one of them corrupted, through every step."""

import json
import pathlib
import shutil

import pytest

CLIPS = pathlib.Path(__file__).parents[2] / "../shared/clips"

pytestmark = pytest.mark.skipif(
    not CLIPS.is_dir(), reason="the clips are not beside this checkout"
)


@pytest.fixture(scope="module")
def trained(command, config):
    for split in ("train", "val"):
        for path in CLIPS.iterdir():
            name = "face" if path.name.startswith("face") else "action"
            folder = command.folder / "data" / split / name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / path.name)
    # Clips of 4 x 16 frames: they see all of a video, and so where it is broken.
    stride = "--params_override=task.clip.temporal_stride=16"
    command("train_and_eval", "--config", config, stride).succeeds()
    return command


def test_every_clip_is_tested_and_the_corrupted_one_named(trained):
    results = json.loads((trained.folder / "model/eval_results.json").read_text())
    left_out = set(results["broken"])
    assert left_out <= {str(pathlib.Path("data/val/action/corrupted.mp4"))}
    assert results["num_videos"] + len(left_out) == len(list(CLIPS.iterdir()))
    assert "val/action/corrupted.mp4: " in trained.err


def test_every_clip_is_predicted_or_named(trained):
    trained("predict", CLIPS, "--json")
    results = json.loads(trained.out)
    assert [result["path"] for result in results] == sorted(map(str, CLIPS.iterdir()))
    failed = [result["path"] for result in results if "error" in result]
    assert failed in ([], [str(CLIPS / "corrupted.mp4")])
    assert trained.code == len(failed)
    assert "corrupted.mp4: " in trained.err
