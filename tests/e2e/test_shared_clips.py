"""Real files of several kinds, one of them corrupted, through every step."""

import contextlib
import io
import json
import pathlib
import shutil
import types

import pytest

from trainers.video_classification import modes

CLIPS = pathlib.Path(__file__).parents[2] / "../shared/clips"

pytestmark = pytest.mark.skipif(
    not CLIPS.is_dir(), reason="the clips are not beside this checkout"
)


def run(mode, folder, **options):
    """A mode in this process; its code, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        options = modes.Options(pathlib.Path("model"), **options)
        code = modes.run(mode, options)
    return types.SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="module")
def folder(command, config):
    for split in ("train", "val"):
        for path in CLIPS.iterdir():
            name = "face" if path.name.startswith("face") else "action"
            folder = command.folder / "data" / split / name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / path.name)
    return command.folder


@pytest.fixture(scope="module")
def trained(folder, config):
    overrides = (
        # Clips of 4 x 16 frames cover a whole video, and thus where it is broken.
        "task.clip.temporal_stride=16",
        "task.report_videos=0",
        "runtime.deterministic=false",  # it would be so for all later tests
    )
    done = run("train_and_eval", folder, config_files=(config,), overrides=overrides)
    assert done.code == 0
    return done


def test_every_clip_is_tested_and_the_corrupted_one_named(trained, folder):
    results = json.loads((folder / "model/eval_results.json").read_text())
    left_out = set(results["broken"])
    assert left_out <= {str(pathlib.Path("data/val/action/corrupted.mp4"))}
    assert results["num_videos"] + len(left_out) == len(list(CLIPS.iterdir()))
    assert "val/action/corrupted.mp4: " in trained.err


def test_every_clip_is_predicted_or_named(trained, folder, caplog):
    done = run("predict", folder, paths=(str(CLIPS),), as_json=True)
    results = json.loads(done.out)
    assert [result["path"] for result in results] == sorted(map(str, CLIPS.iterdir()))
    failed = [result["path"] for result in results if "error" in result]
    assert failed in ([], [str(CLIPS / "corrupted.mp4")])
    assert done.code == len(failed)
    assert "corrupted.mp4: " in done.err + caplog.text
