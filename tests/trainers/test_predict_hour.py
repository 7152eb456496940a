"""A video of one hour: memory and scores, by the command itself."""

import json
import os
import pathlib
import subprocess
import sys

import av
import numpy as np
import pytest

from tests.trainers import runs
from tests.trainers.test_predict_windows import LOSSLESS
from trainers.video_classification.data import write_video

pytestmark = pytest.mark.hostile
RATE, WINDOW = 25, 10


def write_minutes(path, minutes):
    """Frames whose colour goes up and down, with noise that moves."""
    random = np.random.default_rng(0)
    texture = random.integers(0, 60, (96, 128, 3), np.uint8)

    def frames():
        for number in range(minutes * 60 * RATE):
            levels = 90 + 90 * np.sin(number / np.array([97.0, 331.0, 1013.0]))
            moved = np.roll(texture, number, axis=1)[:48, :64]
            yield moved + levels.astype(np.uint8)

    write_video(str(path), frames(), RATE, codec="mpeg4", options={"qscale": "4"})
    return path


def predict(model_dir, *arguments):
    """Runs the command; its JSON lines, and its peak memory in MiB."""
    command = [sys.executable, runs.SCRIPT, "--mode", "predict", "--json"]
    command += ["--model_dir", model_dir, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return output, usage.ru_maxrss / 1024


@pytest.fixture(scope="module")
def model_dir(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    overrides = ("trainer.train_steps=2", "trainer.checkpoint_interval=2")
    assert runs.run("train", folder, *overrides, config=config) == 0
    return folder


def test_an_hour_takes_the_memory_of_a_minute(model_dir, tmp_path):
    hour = write_minutes(tmp_path / "hour.mp4", 60)
    minute = write_minutes(tmp_path / "minute.mp4", 1)
    _, least = predict(model_dir, "--window", str(WINDOW), minute)
    output, peak = predict(model_dir, "--window", str(WINDOW), hour)
    print(f"peak memory: {least:.0f} MiB for a minute, {peak:.0f} MiB for an hour")
    assert peak < least + 200
    lines = [json.loads(line) for line in output.splitlines()]
    starts = [line["start"] for line in lines]
    assert starts == list(range(0, 3600, WINDOW))
    folder = tmp_path / "parts"
    folder.mkdir()
    chosen = (0, 17, 180, 251, 359)
    cut_out(hour, folder, chosen)
    alone, _ = predict(model_dir, folder)
    for record in json.loads(alone):
        number = int(pathlib.Path(record["path"]).stem)
        assert record["predictions"] == lines[number]["predictions"]
    assert len({lines[number]["score"] for number in chosen}) == len(chosen)


def cut_out(path, folder, windows):
    """Writes windows of a video as files of their own, without loss."""
    count = WINDOW * RATE
    with av.open(str(path)) as container:
        parts = {number: [] for number in windows}
        for number, frame in enumerate(container.decode(video=0)):
            if number // count in parts:
                image = frame.reformat(format="rgb24", interpolation="BILINEAR")
                parts[number // count].append(image.to_ndarray())
    for number, frames in parts.items():
        write_video(str(folder / f"{number}.mkv"), frames, RATE, **LOSSLESS)
