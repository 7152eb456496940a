"""The demo: its videos, its steps and its pictures."""

import colorsys
import json
import pathlib
import subprocess
import sys

import av
import numpy as np
import pytest
import tensorflow as tf

from keras_nonlocal.receptive_field import Grid
from keras_nonlocal.visualize import AttentionMaps

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module", autouse=True)
def _import_from_examples():
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


@pytest.fixture
def demo():
    import demo

    return demo


@pytest.fixture
def demo_videos():
    import demo_videos

    return demo_videos


@pytest.fixture
def demo_pictures():
    import demo_pictures

    return demo_pictures


# === Videos ===


def hue(frame):
    """Hue of the most saturated pixels."""
    pixels = frame.reshape(-1, 3).astype(float)
    saturation = np.ptp(pixels, axis=1)
    color = pixels[saturation > saturation.max() * 0.9].mean(axis=0)
    return colorsys.rgb_to_hsv(*color / 255)[0]


def hue_distance(frames):
    distance = abs(hue(frames[0]) - hue(frames[-1]))
    return min(distance, 1 - distance)


def test_class_says_whether_both_objects_have_one_hue(demo_videos):
    for number in range(40):
        frames, name = demo_videos.make_video("train", number)
        distance = hue_distance(frames)
        assert distance < 0.01 if name == "same" else distance > 0.24


def test_colour_of_one_object_says_nothing_about_the_class(demo_videos):
    videos = [demo_videos.make_video("train", number) for number in range(400)]
    for end in (0, -1):
        hues = {"same": [], "different": []}
        for frames, name in videos:
            hues[name].append(hue(frames[end]))
        counts = [np.histogram(h, 4, (0, 1))[0] for h in hues.values()]
        # 200 in 4 bins: 50 each, standard deviation 6.
        assert np.abs(np.array(counts) - 50).max() < 24


def test_no_frame_shows_both_objects_and_curtains_show_none(demo_videos):
    frames, _ = demo_videos.make_video("train", 0)
    saturated = (np.ptp(frames.astype(int), axis=-1) > 128).sum((1, 2))
    assert (saturated[demo_videos.CURTAIN] == 0).all()
    assert (np.abs(saturated[:7] - 201) < 25).all()  # ball: pi * 8^2
    assert (saturated[11:] == 16 * 16).all()


def test_splits_hold_different_videos_and_each_is_the_same_again(demo_videos):
    frames = [demo_videos.make_video(split, 5)[0] for split in demo_videos.SPLITS]
    assert not any(np.array_equal(frames[0], other) for other in frames[1:])
    again, _ = demo_videos.make_video("train", 5)
    np.testing.assert_array_equal(again, frames[0])


def test_videos_are_h264_in_a_folder_per_class_and_kept(demo_videos, tmp_path):
    counts = ["--train", "5", "--val", "2", "--test", "2"]
    demo_videos.main([str(tmp_path), *counts])
    path = tmp_path / "train/same/00003.mp4"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width) == ("h264", 80)
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode()]
    frames, _ = demo_videos.make_video("train", 3)
    error = np.abs(np.array(decoded).astype(int) - frames)
    assert error.mean() < 4  # chroma is stored at half the resolution
    files = {p.name for p in tmp_path.glob("train/*/*")}
    assert files == {f"{n:05d}.mp4" for n in range(5)}

    path.unlink()
    other = tmp_path / "train/different/00000.mp4"
    before = other.stat().st_mtime_ns
    assert demo_videos.write_split(tmp_path, "train", 5) == 1
    assert path.exists() and other.stat().st_mtime_ns == before


# === Steps ===


class Recorder:
    """Runs no command: records it, and writes a file in the step's output."""

    def __init__(self, output):
        self.output, self.calls, self.fails = output, [], False

    def __call__(self, command):
        self.calls.append(command)
        self.output.mkdir(exist_ok=True)
        (self.output / command[-1]).write_text("made")
        if self.fails:
            raise self.fails


@pytest.fixture
def recorder(tmp_path):
    return Recorder(tmp_path / "output")


def run(demo, tmp_path, recorder, command=("make", "a"), depends_on=()):
    steps = demo.Steps(tmp_path / "steps.json", recorder)
    return steps.run("Make", list(command), recorder.output, depends_on)


def test_finished_step_is_kept_and_says_so(demo, tmp_path, recorder, capsys):
    keys = {run(demo, tmp_path, recorder) for _ in range(2)}
    assert len(recorder.calls) == 1 and len(keys) == 1
    assert "Finished before: using" in capsys.readouterr().out


def test_step_is_run_again_when_its_output_is_gone(demo, tmp_path, recorder):
    run(demo, tmp_path, recorder)
    demo._remove(recorder.output)
    run(demo, tmp_path, recorder)
    assert len(recorder.calls) == 2


def test_changed_command_or_input_starts_afresh(demo, tmp_path, recorder):
    config = tmp_path / "config.yaml"
    config.write_text("a")
    run(demo, tmp_path, recorder, ("make", "a"), [config])
    run(demo, tmp_path, recorder, ("make", "b"), [config])
    assert [p.name for p in recorder.output.iterdir()] == ["b"]
    config.write_text("b")
    run(demo, tmp_path, recorder, ("make", "b"), [config])
    run(demo, tmp_path, recorder, ("make", "b"), ["key of an earlier step"])
    assert len(recorder.calls) == 4


def test_interrupted_step_goes_on_with_what_it_had(demo, tmp_path, recorder):
    recorder.fails = demo.StepFailed("exit code 1")
    with pytest.raises(demo.StepFailed):
        run(demo, tmp_path, recorder)
    recorder.fails = False
    (recorder.output / "checkpoint").write_text("half way")
    run(demo, tmp_path, recorder)
    assert len(recorder.calls) == 2
    assert (recorder.output / "checkpoint").exists()


def test_failing_command_is_named(demo):
    with pytest.raises(demo.StepFailed, match="exit code 3 of: python -c"):
        demo.run_command(["-c", "raise SystemExit(3)"])


def test_table_has_a_row_per_network_and_a_column_per_seed(demo, tmp_path):
    runs = []
    for network, seed, top1 in (("c2d", 0, 0.5), ("nl", 0, 0.96), ("c2d", 1, 0.475)):
        runs.append(demo.Run(network, seed, tmp_path))
        runs[-1].folder.mkdir(parents=True)
        runs[-1].test_file.write_text(json.dumps({"top1": top1}))
    runs.append(demo.Run("nl", 1, tmp_path))
    runs[-1].folder.mkdir(parents=True)
    runs[-1].test_file.write_text(json.dumps({"top1": 1}))
    assert demo.table(runs).splitlines() == [
        "| network | seed 0 | seed 1  |",
        "| ------- | ------ | ------- |",
        "| c2d     | 50.0 % | 47.5 %  |",
        "| nl      | 96.0 % | 100.0 % |",
    ]


@pytest.mark.parametrize("arguments", [["--networks", "c3d"], ["--seeds", "0"]])
def test_wrong_arguments_are_refused(demo, arguments, capsys):
    with pytest.raises(SystemExit) as error:
        demo.main(arguments)
    assert error.value.code == 2 and "invalid" in capsys.readouterr().err


# === Pictures ===


def test_curves_are_read_by_step_and_later_runs_win(demo_pictures, tmp_path):
    for start, offset in ((0, 0.0), (2, 10.0)):  # the second goes on from step 2
        writer = tf.summary.create_file_writer(
            str(tmp_path), filename_suffix=f"{start}"
        )
        with writer.as_default():
            for step in range(start, 4):
                tf.summary.scalar("loss", step + offset, step)
                tf.summary.scalar("other", -1.0, step)
        writer.close()
    steps, losses = demo_pictures.read_curve(tmp_path, "loss")
    assert steps.tolist() == [0, 1, 2, 3] and losses.tolist() == [0, 1, 12, 13]


def test_query_is_on_an_object_and_looks_most_at_the_other_one(demo_pictures):
    frames = np.full((4, 8, 8, 3), 90, np.uint8)
    frames[0, 4:, :4] = frames[3, :4, 4:] = (250, 20, 20)  # ball, box
    grid = Grid((4, 2, 2), (0.0, 1.5, 1.5), (1.0, 4.0, 4.0))
    points = grid.centres
    colorful = demo_pictures.is_colorful(frames, points)
    assert points[colorful].tolist() == [[0, 5.5, 1.5], [3, 1.5, 5.5]]
    ball, box = np.flatnonzero(colorful)
    scores = np.zeros((1, 16, 16))
    scores[0, ball, :8] = 1.0  # within its half
    scores[0, ball, 14] = 0.9  # across, but beside the box
    scores[0, box, ball] = 0.2
    scores[0, 15, ball] = 0.9  # from the background
    maps = AttentionMaps(scores, grid, grid)
    assert demo_pictures.farthest_looking(maps, frames) == box


# === The check in CI ===


def check(folder, **accuracies):
    for network, top1 in accuracies.items():
        path = folder / "seed0" / network / "test.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"top1": top1}))
    script = EXAMPLES.parent / ".ci" / "check_demo.py"
    return subprocess.run(
        [sys.executable, script, folder], capture_output=True, text=True
    )


def test_ci_accepts_accuracies_as_published(tmp_path):
    done = check(tmp_path, c2d=0.593, nl_c2d=0.97)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["c2d: 59.3 %", "nl_c2d: 97.0 %"]


def test_ci_refuses_a_block_at_chance_and_a_control_that_learns(tmp_path):
    done = check(tmp_path, c2d=0.93, nl_c2d=0.5)
    assert done.returncode == 1
    control, block = done.stderr.splitlines()
    assert "c2d/test.json: top1 is 93.0 %, expected 35 to 65 %" in control
    assert "nl_c2d/test.json: top1 is 50.0 %, expected 90 to 100 %" in block


# === All of it ===


@pytest.mark.slow
def test_demo_runs_to_the_end_and_then_reuses_it(demo, tmp_path, capfd):
    """The real commands, on few videos and few steps."""
    for config in demo.CONFIGS.glob("*c2d.yaml"):
        text = config.read_text().replace("train_steps: 500", "train_steps: 4")
        (tmp_path / config.name).write_text(text)
    counts = ["--train", "40", "--val", "4", "--test", "4"]
    arguments = (tmp_path / "demo", ["nl_c2d"], 1, tmp_path, counts)
    demo.demo(*arguments)
    assert (tmp_path / "demo/export/1/saved_model.pb").exists()
    assert "<svg" in (tmp_path / "demo/seed0/nl_c2d/report.html").read_text()
    pictures = [path.name for path in (tmp_path / "demo/pictures").iterdir()]
    assert sorted(pictures) == ["attention_seed0.png", "curves.png"]
    output = capfd.readouterr().out
    assert "| nl_c2d  |" in output and "same/00001.mp4" in output
    demo.demo(*arguments)
    assert capfd.readouterr().out.count("Finished before") == 6
