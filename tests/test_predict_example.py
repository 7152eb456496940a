"""examples/predict_with_saved_model.py decodes the clip in the middle alone.

What it cannot read is one line: damaged exports, and inputs that are no videos.
"""

import importlib.util
import math
import os
import pathlib
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
import tensorflow as tf

from trainers.video_classification.data import write_video

PATH = pathlib.Path(__file__).parents[1] / "examples" / "predict_with_saved_model.py"
COUNT = 61


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("example", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def moving_frames(count, height=48, width=64):
    shape = (height // 4, width // 4, 3)
    blocks = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    picture = blocks.repeat(4, 0).repeat(4, 1)
    return (np.roll(picture, 3 * i, axis=1) for i in range(count))


def write(path, codec, options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.gop_size = 12
        for image in moving_frames(COUNT):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def all_frames(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    "name, codec, options",
    [
        ("a.mp4", "libx264", {"bf": "3"}),
        ("open.mp4", "libx264", {"bf": "3", "x264-params": "open-gop=1"}),
        ("a.mkv", "libx264", {}),
        ("a.ts", "libx264", {"bf": "2"}),
        ("a.mpg", "mpeg2video", {"bf": "2"}),
        ("a.webm", "libvpx-vp9", {"deadline": "realtime"}),
        ("a.avi", "mpeg4", {"bf": "2"}),
        ("a.h264", "libx264", {}),  # has no timestamps
    ],
)
@pytest.mark.parametrize("clip", [(8, 4), (1, 1), (32, 3)])
def test_the_frames_are_those_of_the_middle(
    example, tmp_path, name, codec, options, clip
):
    path = tmp_path / name
    write(path, codec, options)
    num_frames, stride = clip
    frames = all_frames(path)
    start = max(0, (len(frames) - (num_frames - 1) * stride - 1) // 2)
    numbers = [(start + stride * i) % len(frames) for i in range(num_frames)]
    got = example.read_middle_clip(path, num_frames, stride)
    np.testing.assert_array_equal(got, [frames[i] for i in numbers])


@pytest.mark.parametrize("rate", [15, 25, 50])
def test_clips_of_a_rate_are_those_of_the_middle(example, tmp_path, rate):
    path = tmp_path / "a.mp4"
    write_video(str(path), list(moving_frames(50)), fps=rate)
    frames, step = all_frames(path), Fraction(rate, 10)
    start = max(0, (50 - (3 * step + 1)) // 2)
    numbers = [math.ceil(start + i * step - Fraction(1, 2)) for i in range(4)]
    got = example.read_middle_clip(path, 4, None, 10.0)
    np.testing.assert_array_equal(got, [frames[i] for i in numbers])


def test_short_videos_are_repeated(example, tmp_path):
    path = tmp_path / "a.mp4"
    write_video(str(path), list(moving_frames(3)))
    frames = all_frames(path)
    got = example.read_middle_clip(path, 4, 2)
    np.testing.assert_array_equal(got, [frames[i] for i in (0, 2, 1, 0)])


def test_frames_that_can_be_decoded_are_counted_if_others_are_missing(
    example, tmp_path
):
    path = tmp_path / "a.ts"
    write(path, "libx264", {"bf": "0"})
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : -len(content) // 3] = bytes(len(content) // 3 + 1)
    path.write_bytes(content)
    frames = all_frames(path)
    assert 8 < len(frames) < COUNT
    assert example.read_middle_clip(path, 4, 2).shape == (4, 48, 64, 3)


def test_only_the_frames_of_the_clip_are_kept(example, tmp_path):
    path = tmp_path / "a.mp4"
    write_video(str(path), list(moving_frames(200, 480, 640)))
    before = reset_peak_memory()
    example.read_middle_clip(path, 8, 8)
    grown = memory_mib("VmHWM") - before
    assert grown < 90  # all frames: 176 MiB


def reset_peak_memory():
    """Sets the peak of this process to its present memory, in MiB, and returns it."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("this system does not reset the peak of a process")
    return memory_mib("VmRSS")


def memory_mib(key):
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition(f"{key}:")[2].split()[0]) / 1024


# === Errors ===


class Network(tf.Module):
    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(np.random.default_rng(0).random((3, 2000), "f4"))

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, None, 3), tf.uint8, "clips")]
    )
    def classify(self, clips):
        means = tf.reduce_mean(tf.cast(clips, tf.float32), (1, 2, 3))
        logits = tf.linalg.matmul(means, self.weight)[:, :3]
        return {"probabilities": tf.nn.softmax(logits)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    network = Network()
    tf.saved_model.save(network, str(folder / "1"), signatures=network.classify)
    (folder / "1/assets/classes.txt").write_text("dancing\njuggling\nyawning\n")
    preprocessing = '{"num_frames": 2, "temporal_stride": 1}'
    (folder / "1/assets/preprocessing.json").write_text(preprocessing)
    return folder


def truncate(path):
    path.write_bytes(path.read_bytes()[:-99])


def flip(path):
    content = bytearray(path.read_bytes())
    content[1000:1100] = bytes(255 - byte for byte in content[1000:1100])
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "why"),
    [
        ("saved_model.pb", truncate, "Cannot parse file"),
        ("variables/variables.data-00000-of-00001", flip, "Checksum does not match"),
        ("variables/variables.data-00000-of-00001", truncate, "Read less bytes"),
        ("variables/variables.index", os.remove, "Failed to find"),
        ("assets/preprocessing.json", truncate, "Expecting value"),
        (
            "assets/classes.txt",
            lambda path: path.write_text("dancing\nyawning\n"),
            "classes.txt has 2 names for 3 classes",
        ),
    ],
)
def test_a_damaged_export_is_named(example, exported, tmp_path, name, damage, why):
    folder = shutil.copytree(exported, tmp_path / "export")
    damage(folder / "1" / name)
    with pytest.raises(SystemExit) as raised:
        example.main(str(folder), "a.mp4")
    (line,) = raised.value.code.splitlines()
    assert line.startswith(f"error: {folder}/1: this export cannot be loaded (")
    assert why in line and line.endswith("export again: --mode export.")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkdir, "is a folder; expected video files (--mode predict takes both)"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.write_text("text"), "Invalid data found when processing"),
        (lambda path: path.write_text(""), "Invalid data found when processing"),
        (lambda path: None, "No such file or directory"),
    ],
    ids=["folder", "fifo", "text", "empty", "missing"],
)
def test_inputs_that_are_no_videos_are_one_line(
    example, exported, tmp_path, capsys, make, why
):
    good, path = tmp_path / "good.mp4", tmp_path / "a.mp4"
    write_video(str(good), list(moving_frames(3)))
    make(path)
    assert example.main(str(exported), str(path), str(good)) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {path}: {why}")
    assert err.count("\n") == 1 and err.count(path.name) == 1
    assert "Errno" not in err
    assert out.startswith(f"{good}\n") and "juggling" in out
