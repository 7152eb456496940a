"""What is left out of decoding changes no pixel: frames are those of a full decode."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest

from trainers.video_classification.data import write_video
from trainers.video_classification.data.decoding.picture import Converter
from trainers.video_classification.data.decoding.pyav import PyAVFrames

COUNT, HEIGHT, WIDTH = 48, 48, 72
X264 = {"g": "16", "bf": "3", "b_strategy": "0", "crf": "20"}


def moving(count=COUNT, height=HEIGHT, width=WIDTH):
    """Frames of which each pixel depends on the frame's number."""
    shape = height // 2 + 1, width + 1, 3
    pattern = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    pattern = pattern.repeat(2, 0).repeat(2, 1)[:height]
    for number in range(count):
        yield pattern[:, 3 * number % width :][:, :width]


def write_timed(path, ticks, options=X264):
    """Frames that are shown at given hundredths of a second."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for time, pixels in zip(ticks, moving(len(ticks)), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_x264(params):
    options = X264 | {"x264-params": params}
    return lambda path: write_video(path, moving(), options=options)


STREAMS = {
    "b_pyramid.mp4": write_x264("b-pyramid=normal:scenecut=0"),
    "strict_pyramid.mkv": write_x264("b-pyramid=strict:scenecut=0"),
    "open_gop.ts": write_x264("open-gop=1:scenecut=0"),
    "open_gop.mp4": write_x264("open-gop=1:b-pyramid=normal:scenecut=0"),
    "variable_rate.mp4": lambda path: write_timed(
        path, [4 * n + n // 7 * 13 + n % 3 for n in range(COUNT)]
    ),
    "negative_times.mkv": lambda path: write_timed(path, range(-60, 4 * COUNT - 60, 4)),
    "negative_times.mp4": lambda path: write_timed(path, range(-60, 4 * COUNT - 60, 4)),
    "vp9.webm": lambda path: write_video(
        path,
        moving(),
        codec="libvpx-vp9",
        options={"g": "16", "deadline": "realtime", "cpu-used": "8"},
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_frames_are_those_of_a_full_decode(tmp_path, name):
    path = str(tmp_path / name)
    STREAMS[name](path)
    with av.open(path) as container:
        frames = [f for f in container.decode(video=0) if not f.is_corrupt]
    whole = [frame.to_ndarray(format="rgb24") for frame in frames]
    numbers = np.arange(len(whole))
    for wanted in (numbers[5::2], numbers[20:30:3], numbers[-1:], numbers):
        video = PyAVFrames(path)
        assert video.num_frames == len(whole)
        for _ in range(2):  # from the packets of the index, and from the file
            found = {n: picture.rgb() for n, picture in video.pictures(wanted)}
            assert sorted(found) == wanted.tolist()
            for number, image in found.items():
                np.testing.assert_array_equal(image, whole[number])


def test_a_file_is_read_once(tmp_path):
    path = str(tmp_path / "a.mp4")
    write_video(path, moving(), options=X264)
    with av.open(path) as container:
        whole = [frame.to_ndarray(format="rgb24") for frame in container.decode()]
    video = PyAVFrames(path)
    os.remove(path)
    for number, picture in video.pictures(np.array([7, 30])):
        np.testing.assert_array_equal(picture.rgb(), whole[number])


def test_reading_that_was_given_up_begins_again(tmp_path):
    path = str(tmp_path / "a.mp4")
    write_video(path, moving(), options=X264)
    video = PyAVFrames(path)
    first = [next(iter(video.pictures(np.array([20, 40])))) for _ in range(2)]
    assert [number for number, _ in first] == [20, 20]
    np.testing.assert_array_equal(first[0][1].rgb(), first[1][1].rgb())


def frame_of(height, width, pix_fmt, colours):
    image = next(moving(1, height, width))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
    return frame.reformat(format=pix_fmt, **colours)


BT709 = {"dst_colorspace": "itu709", "dst_color_range": "JPEG"}


@pytest.mark.parametrize(
    "size, pix_fmt, colours",
    [
        ((48, 72), "yuv420p", {}),
        ((48, 72), "yuv420p", BT709),
        ((50, 86), "yuv420p", {}),
        ((270, 486), "yuv420p", {}),
        ((45, 72), "yuv420p", {}),
        ((46, 71), "yuv420p", {}),
        ((45, 71), "yuv444p", {}),
        ((48, 72), "yuv422p", {}),
        ((48, 72), "yuv420p10le", {}),
        ((48, 72), "yuvj420p", {}),
        ((48, 72), "gray", {}),
    ],
)
def test_a_part_of_a_frame_has_the_pixels_of_the_whole(size, pix_fmt, colours):
    frame = frame_of(*size, pix_fmt, colours)
    whole = Converter().rgb(frame, slice(None), slice(None))
    assert whole.shape == (*size, 3) and whole.std() > 30
    draw, converter = np.random.default_rng(0), Converter()
    for _ in range(40):
        (top, bottom), (left, right) = (
            sorted(draw.choice(side + 1, 2, replace=False)) for side in size
        )
        box = slice(top, bottom), slice(left, right)
        for _ in range(2):
            np.testing.assert_array_equal(converter.rgb(frame, *box), whole[box])
