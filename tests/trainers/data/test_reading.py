"""The right frames are read: each shows its number."""

import os
import pathlib
import re
from fractions import Fraction

import av
import numpy as np
import pytest

from trainers.video_classification.data import VideoError, read_views, reading
from trainers.video_classification.data.decoding.pyav import PyAVFrames


class Plan:
    """Cuts given frames of a video, whole where it is square."""

    num_windows, needs_rate = 1, False

    def __init__(self, frames, windows):
        self._frames, self.windows = np.array(frames), windows
        self.num_frames = self._frames.shape[1]
        self.num_clips = len(self._frames)
        self.size = windows(48, 72)[0].size

    def frames(self, video_frames, frame_rate=0.0, times=None):
        return self._frames % video_frames


@pytest.fixture
def read_numbers(data_config, clip_config, clips):
    """Numbers of the frames read for frame numbers (clips, T)."""
    from trainers.video_classification.data.views import Window

    def read(path, frames, warn=lambda *args: pytest.fail(str(args))):
        def windows(height, width):  # all columns, squeezed: bits stay readable
            return [Window(36, 36, 0, 0, 36)]

        views = reading.cut_views(path, "pyav", Plan(frames, windows), warn)
        return clips.numbers(views.pixels)

    return read


# Small GOPs with B-frames: 40 frames, keyframes every 7.
GOP = dict(options={"g": "7", "bf": "3", "crf": "10", "x264-params": "scenecut=0"})


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov", ".avi"])
def test_every_window_of_every_container_is_exact(
    tmp_path, clips, read_numbers, suffix
):
    codec = dict(codec="mpeg4", options={"g": "7", "bf": "2", "qscale": "2"})
    path = clips.write(
        tmp_path / f"a{suffix}", 40, **(codec if suffix == ".avi" else GOP)
    )
    assert PyAVFrames(path).num_frames == 40
    for start in range(0, 33, 3):
        wanted = [[start, start + 2, start + 4, start + 7]]
        np.testing.assert_array_equal(read_numbers(path, wanted), wanted)


def test_vp9_in_webm_is_exact(tmp_path, clips, read_numbers):
    path = clips.write(
        tmp_path / "a.webm",
        24,
        codec="libvpx-vp9",
        options={"g": "6", "deadline": "realtime", "cpu-used": "8"},
    )
    np.testing.assert_array_equal(
        read_numbers(path, [[3, 9, 20, 23]]), [[3, 9, 20, 23]]
    )


def test_open_gops_are_exact(tmp_path, clips, read_numbers):
    options = {"g": "8", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}
    path = clips.write(tmp_path / "a.mp4", 40, options=options)
    for start in range(36):
        wanted = [[start, start + 1, start + 3]]
        np.testing.assert_array_equal(read_numbers(path, wanted), wanted)


def test_clips_share_frames_and_may_wrap(tmp_path, clips, read_numbers):
    path = clips.write(tmp_path / "a.mp4", 40, **GOP)
    wanted = [[30, 38, 6], [6, 7, 30]]
    np.testing.assert_array_equal(read_numbers(path, wanted), wanted)


def test_only_the_window_is_decoded(tmp_path, clips, read_numbers, monkeypatch):
    from trainers.video_classification.data.decoding import pyav

    path = clips.write(tmp_path / "a.mp4", 40, **GOP)
    decoded = []
    original = pyav._decode

    def counting(file, packets):
        for frame in original(file, packets):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(pyav, "_decode", counting)
    read_numbers(path, [[29, 31]])
    assert len(decoded) <= 4  # from keyframe 28, without unreferenced frames


def test_variable_frame_rate_is_read_by_timestamp(tmp_path, clips, read_numbers):
    path = str(tmp_path / "vfr.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options=GOP["options"])
        stream.width, stream.height, stream.pix_fmt = 72, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for number, pixels in enumerate(clips.frames(30)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            frame.pts = number * 4 if number < 15 else 60 + (number - 15) * 40
            frame.time_base = Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    np.testing.assert_array_equal(
        read_numbers(path, [[2, 14, 16, 29]]), [[2, 14, 16, 29]]
    )


def test_a_raw_stream_has_its_frames_counted(tmp_path, clips, read_numbers):
    path = clips.write(tmp_path / "raw.h264", 20, options={"bf": "0", "crf": "10"})
    np.testing.assert_array_equal(read_numbers(path, [[0, 7, 19]]), [[0, 7, 19]])


def test_one_frame_is_repeated(tmp_path, clips, data_config, clip_config):
    path = clips.write(tmp_path / "one.mp4", 1)
    views = read_views(path, data_config(), clip_config)
    assert views.shape == (1, 4, 28, 28, 3)
    assert (views == views[:, :1]).all()


def test_odd_sizes_are_read(tmp_path, clips, read_numbers):
    path = clips.write(
        tmp_path / "odd.mp4", 8, 45, 71, codec="libx264", pix_fmt="yuv444p"
    )
    np.testing.assert_array_equal(read_numbers(path, [[1, 6]]), [[1, 6]])


@pytest.fixture
def two_sizes(tmp_path, clips):
    """A video of 10 frames of 48 x 72, and 10 of 96 x 64."""
    parts = [
        clips.write(tmp_path / f"{i}.h264", 10, *size, options={"bf": "0", "crf": "10"})
        for i, size in enumerate([(48, 72), (96, 64)])
    ]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(pathlib.Path(part).read_bytes() for part in parts))
    return str(path)


def test_a_size_that_changes_midway_is_read(two_sizes, read_numbers):
    assert read_numbers(two_sizes, [[2, 9, 12, 15]]).tolist() == [[2, 9, 2, 5]]


def test_whole_frames_keep_their_shape(tmp_path, clips, data_config, clip_config):
    data = data_config(test_protocol="paper", num_test_clips=2)
    path = clips.write(tmp_path / "a.mp4", 40, 48, 72)
    views = read_views(path, data, clip_config)
    assert views.shape == (2, 4, 32, 48, 3)
    np.testing.assert_array_equal(
        clips.numbers(views), [[0, 2, 4, 6], [32, 34, 36, 38]]
    )


def test_whole_frames_all_have_the_size_of_the_first(
    two_sizes, clips, data_config, clip_config
):
    data = data_config(test_protocol="paper", num_test_clips=2)
    views = read_views(two_sizes, data, clip_config)
    assert views.shape == (2, 4, 32, 48, 3)
    np.testing.assert_array_equal(clips.numbers(views), [[0, 2, 4, 6], [2, 4, 6, 8]])


def test_pyslowfast_samples_by_the_frame_rate_of_the_video(
    tmp_path, clips, data_config, clip_config
):
    data = data_config(test_protocol="pyslowfast", num_test_clips=2, crop_size=32)
    numbers = {}
    for rate in (15, 30):
        path = clips.write(tmp_path / f"{rate}.mp4", 40, 48, 48, fps=rate)
        numbers[rate] = clips.numbers(read_views(path, data, clip_config)).tolist()
    assert numbers[30] == [[0, 2, 4, 7], [16, 18, 20, 23]]
    assert numbers[15] == [[0, 1, 2, 3], [18, 19, 20, 21]]


def test_a_truncated_file_gives_its_remaining_frames(tmp_path, clips, read_numbers):
    whole = clips.write(
        tmp_path / "whole.mp4",
        200,
        options=GOP["options"],
        container_options={"movflags": "+faststart"},
    )
    data = pathlib.Path(whole).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: len(data) * 6 // 10])
    count = PyAVFrames(str(path)).num_frames
    assert 20 < count < 180
    late = [[count - 30, count - 20, count - 10]]
    np.testing.assert_array_equal(read_numbers(str(path), late), late)


def test_a_damaged_frame_is_replaced_and_reported(tmp_path, clips, read_numbers):
    path = clips.write(tmp_path / "a.mp4", 40, options={"g": "1", "crf": "10"})
    with av.open(path) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        broken = packets[20]
        place, size = broken.pos, broken.size
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(b"\xff" * size)
    reports = []
    got = read_numbers(path, [[19, 20, 21]], lambda *args: reports.append(args))
    np.testing.assert_array_equal(got[0, [0, 2]], [19, 21])
    assert got[0, 1] in (19, 20)
    assert reports == [(path, "1 of the 3 frames wanted are lost or concealed")]


def write_audio(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_text("hello\n" * 50), "cannot be decoded"),
        (lambda p: p.write_bytes(bytes(range(256)) * 99), "cannot be decoded|no video"),
        (lambda p: p.mkdir(), "not a regular file"),
        (lambda p: os.mkfifo(p), "not a regular file"),
        (lambda p: None, "no such file"),
        (write_audio, "no video stream"),
    ],
    ids=["empty", "text", "garbage", "folder", "fifo", "missing", "audio"],
)
def test_a_file_that_is_not_a_video_is_named(
    tmp_path, data_config, clip_config, make, reason
):
    path = tmp_path / "bad.mp4"
    make(path)
    with pytest.raises(VideoError, match=reason) as raised:
        read_views(str(path), data_config(), clip_config)
    assert raised.value.path == str(path)


def test_a_file_without_its_header_is_refused(
    tmp_path, clips, data_config, clip_config
):
    whole = clips.write(tmp_path / "whole.mp4", 30)  # the header comes last
    path = tmp_path / "cut.mp4"
    path.write_bytes(pathlib.Path(whole).read_bytes()[:-200])
    with pytest.raises(VideoError, match="cannot be decoded"):
        read_views(str(path), data_config(), clip_config)


def test_an_error_of_our_own_code_is_not_one_of_the_video(tmp_path, clips):
    from trainers.video_classification.data.views import Window

    path = clips.write(tmp_path / "a.mp4", 12)
    plan = Plan([[0]], lambda height, width: [Window(36, 36, 0, 0, 36)])

    def wrong(*args):
        raise IndexError("in our code")

    plan.windows = wrong
    with pytest.raises(IndexError, match="in our code"):
        reading.cut_views(path, "pyav", plan)
    plan.frames = wrong
    with pytest.raises(IndexError, match="in our code"):
        reading.cut_views(path, "pyav", plan)


def test_no_file_descriptor_is_left_open(tmp_path, clips, data_config, clip_config):
    good, bad = clips.write(tmp_path / "a.mp4", 12), tmp_path / "b.mp4"
    bad.write_text("not a video")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        read_views(good, data_config(), clip_config)
        with pytest.raises(VideoError):
            read_views(str(bad), data_config(), clip_config)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_remote_file_is_read_through_tensorflow(
    clips, tmp_path, data_config, clip_config
):
    import tensorflow as tf

    local = clips.write(tmp_path / "a.mp4", 20)
    tf.io.gfile.copy(local, "ram://data/a.mp4", overwrite=True)
    data = data_config()
    np.testing.assert_array_equal(
        read_views("ram://data/a.mp4", data, clip_config),
        read_views(local, data, clip_config),
    )


def test_shrinking_is_antialiased_and_growing_bilinear(tmp_path, clips):
    from trainers.video_classification.data.cropping import scale

    fine = np.zeros((64, 64, 3), np.uint8)
    fine[::2] = 255  # lines that must average out
    small = scale(fine, 16, 16)
    assert small.min() >= 120 and small.max() <= 135
    step = np.zeros((4, 4, 3), np.uint8)
    step[:, 2:] = 200
    row = scale(step, 8, 8)[0, :, 0]
    assert row.tolist() == [0, 0, 0, 50, 150, 200, 200, 200]


@pytest.mark.parametrize("angle", [90, 180, 270])  # anticlockwise
def test_a_rotation_flag_is_applied(tmp_path, clips, angle):
    path = str(tmp_path / "rotated.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options=GOP["options"])
        stream.width, stream.height, stream.pix_fmt = 72, 48, "yuv420p"
        stream.set_display_rotation(angle)
        for pixels in clips.frames(12):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    pictures = dict(PyAVFrames(path).pictures(np.array([3, 10])))
    for number, picture in pictures.items():
        assert picture.size == ((48, 72) if angle == 180 else (72, 48))
        upright = np.rot90(picture.rgb(), -angle // 90)
        assert clips.numbers(upright) == number
    assert sorted(pictures) == [3, 10]


def write_packed_avi(path, clips, count):
    """As DivX does: a B-frame shares its P-frame's packet, and a dummy follows."""
    options = {"bf": "1", "g": "12", "qscale": "2"}
    plain = clips.write(
        path.with_name("plain.avi"), count, codec="mpeg4", options=options
    )
    with av.open(plain) as source, av.open(str(path), "w") as container:
        packets = [bytes(p) for p in source.demux(video=0) if p.size]
        packed = []
        for packet in packets:
            if packet[packet.index(b"\0\0\1\xb6") + 4] >> 6 == 2:  # a B-frame
                packed[-1] += packet
                packet = b"\0\0\1\xb6\x50\0\x7f"
            packed.append(packet)
        stream = container.add_stream_from_template(source.streams.video[0])
        for number, content in enumerate(packed):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.is_keyframe = content.startswith(b"\0\0\1\xb0")
            container.mux(packet)
    # The decoder believes in packed frames if a DivX says so.
    signature = re.compile(rb"(?<=\x00\x00\x01\xb2)Lavc[\d.]+")
    path.write_bytes(signature.sub(_divx_signature, path.read_bytes()))
    assert packets != packed
    return str(path)


def _divx_signature(found):
    return b"DivX503b%0*dp" % (len(found[0]) - 9, 1393)


def test_b_frames_packed_into_other_packets_are_found(tmp_path, clips, read_numbers):
    path = write_packed_avi(tmp_path / "packed.avi", clips, 30)
    assert PyAVFrames(path).num_frames == 30
    for wanted in ([0, 3, 4, 5], [17, 18], [29], [13, 28]):
        np.testing.assert_array_equal(read_numbers(path, [wanted]), [wanted])


# Real files, where they are beside the project.


def test_packed_b_frames_are_counted(shared_clips):
    path = str(shared_clips / "action_320x240_xvid.avi")
    source = PyAVFrames(path)
    assert source.num_frames == 164
    with av.open(path) as container:
        whole = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    wanted = np.array([0, 3, 4, 5, 80, 81, 163])
    for number, picture in source.pictures(wanted):
        np.testing.assert_array_equal(picture.rgb(), whole[number])


def test_seeking_in_a_real_file_is_exact(shared_clips):
    path = str(shared_clips / "action_340x256_h264.mp4")
    with av.open(path) as container:
        whole = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    for wanted in ([0, 2, 4], [185, 187, 189], [240, 250], [268, 279], [5, 279]):
        found = list(PyAVFrames(path).pictures(np.array(wanted)))
        assert [number for number, _ in found] == wanted
        for number, picture in found:
            np.testing.assert_array_equal(picture.rgb(), whole[number])


def test_rotation_is_applied(shared_clips):
    path = str(shared_clips / "rotated90_3frames.mov")
    (_, picture), *_ = PyAVFrames(path).pictures(np.arange(3))
    assert picture.size == (568, 320)
    with av.open(path) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    np.testing.assert_array_equal(picture.rgb(), np.rot90(stored, -1))


def test_a_corrupted_file_is_used_and_reported(shared_clips, read_numbers):
    reports = []
    path = str(shared_clips / "corrupted.mp4")
    read_numbers(path, [[30, 31, 32, 33]], lambda *args: reports.append(args))
    assert reports and reports[0][0] == path


def test_a_file_that_changes_is_read_again(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 20)
    assert PyAVFrames(path).num_frames == 20
    clips.write(tmp_path / "a.mp4", 31)
    assert PyAVFrames(path).num_frames == 31


def test_metadata_that_are_not_utf8_do_not_matter(tmp_path, clips, read_numbers):
    path = pathlib.Path(clips.write(tmp_path / "a.mp4", 8))
    data = path.read_bytes()
    assert data.count(b"isomiso2") == 1
    path.write_bytes(data.replace(b"isomiso2", b"isom\xe9so2"))
    assert read_numbers(str(path), [[1, 5]]).tolist() == [[1, 5]]


def test_an_unknown_codec_is_refused_by_name(tmp_path, clips, data_config, clip_config):
    path = pathlib.Path(clips.write(tmp_path / "a.mp4", 8))
    data = path.read_bytes()
    assert b"avc1\x00" in data
    path.write_bytes(data.replace(b"avc1\x00", b"zzz9\x00"))
    with pytest.raises(VideoError, match="no decoder for"):
        read_views(str(path), data_config(), clip_config)
