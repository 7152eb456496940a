"""Records are read, and damaged ones noticed."""

import pathlib
import struct
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.data.record_files import (
    SETTINGS,
    encoded,
    forged,
    framed,
    make_record,
    write_record,
)
from trainers.core.tfrecord_file import TFRecordFile
from trainers.video_classification.data import VideoError, load_index, read_views
from trainers.video_classification.data.configs import MediaLimits
from trainers.video_classification.data.tfrecords.frame_tables import table_file
from trainers.video_classification.data.tfrecords.records import RecordFrames
from trainers.video_classification.data.tfrecords.shards import write_shards
from trainers.video_classification.data.tfrecords.sidecars import list_shard, sidecar


def test_a_damaged_record_is_a_broken_video(shards, data_config, clip_config):
    shard = shards / "clips-00000-of-00002.tfrecord"
    path = load_index(data_config(input_path=str(shards))).videos[1].path
    shard.write_bytes(shard.read_bytes()[: int(path.rpartition("#")[2]) + 500])
    with pytest.raises(VideoError, match="is cut short"):
        read_views(path, data_config(), clip_config)
    pathlib.Path(sidecar(str(shard))).unlink()
    with pytest.raises(VideoError, match=r"00000-of-00002.tfrecord#\d+: is cut short"):
        load_index(data_config(input_path=str(shard)))


def test_each_flipped_bit_is_a_broken_video(shards, data_config, clip_config):
    shard = shards / "clips-00000-of-00002.tfrecord"
    pathlib.Path(table_file(str(shard))).unlink()  # the whole record is read
    whole = shard.read_bytes()
    length = struct.unpack_from("<Q", whole)[0]
    places = np.random.default_rng(0).integers(0, length + 16, 40).tolist()
    for place in [0, 7, 8, 11, length + 12, length + 15, *places]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        shard.write_bytes(damaged)
        with pytest.raises(VideoError, match="the checksum does not match"):
            read_views(f"{shard}#0", data_config(), clip_config)
    shard.write_bytes(whole)
    assert read_views(f"{shard}#0", data_config(), clip_config).shape[0] == 1


@pytest.mark.parametrize("length", [50, 2**31, 2**62])
def test_a_record_of_forged_length_is_a_broken_video(
    tmp_path, data_config, clip_config, length
):
    shard = tmp_path / "a.tfrecord"
    shard.write_bytes(framed(b"", length) + bytes(100))
    with pytest.raises(VideoError, match="too long|checksum does not match the conten"):
        read_views(f"{shard}#0", data_config(), clip_config)


def test_records_of_something_else_are_refused(tmp_path, data_config, clip_config):
    path = str(tmp_path / "other.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(b"\x0a\x05hello, this is text")
    with pytest.raises(VideoError, match="tfrecord#0: is not a SequenceExample"):
        load_index(data_config(input_path=path))
    with pytest.raises(VideoError, match="not a SequenceExample"):
        read_views(f"{path}#0", data_config(), clip_config)


def shown(path):
    """The frames of a record that can be read, and what each shows in its centre."""
    pictures = RecordFrames(path).pictures(np.arange(RecordFrames(path).num_frames))
    return {n: int(p.rgb()[p.size[0] // 2, p.size[1] // 2, 0]) for n, p in pictures}


def test_frames_without_bytes_are_lost_frames(tmp_path, data_config, clip_config):
    frames = [encoded()] * 8
    good = write_record(tmp_path / "good.tfrecord", frames)
    frames[1:4] = frames[5:8] = [None] * 3
    broken = write_record(tmp_path / "broken.tfrecord", frames)
    assert (read_views(good, data_config(), clip_config) == 90).all()
    clip_config.temporal_stride = 1  # frames 2 to 5, of which only 4 is there
    with pytest.raises(VideoError, match="only 1 of the 4 frames wanted"):
        read_views(broken, data_config(), clip_config)


@pytest.mark.parametrize("side", [16, 20_000, 30_000, 60_000])
@pytest.mark.parametrize("size", [(32, 32), None])
def test_a_frame_with_a_forged_size_is_a_lost_frame(tmp_path, side, size):
    frames = [encoded()] * 4
    frames[2] = forged(frames[2], side, side)
    path = write_record(tmp_path / "a.tfrecord", frames, size)
    tracemalloc.start()
    found = shown(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    if size or side > 5793:  # the side of limits.pixels
        assert found == {0: 90, 1: 90, 3: 90}
    else:  # a smaller frame, in a record that does not say how large they are
        assert set(found) == {0, 1, 2, 3}


@pytest.mark.parametrize("size", [(32, 32), None])
def test_limits_are_those_of_videos(tmp_path, data_config, clip_config, size):
    path = write_record(tmp_path / "a.tfrecord", [encoded()] * 4, size)
    limits = MediaLimits(pixels=32 * 32)
    assert read_views(path, data_config(limits=limits), clip_config).shape[0] == 1
    limits.pixels -= 1
    with pytest.raises(VideoError, match="has frames of 32 x 32 pixels .*limits.pixel"):
        read_views(path, data_config(limits=limits), clip_config)


@pytest.mark.parametrize("size", [None, (48, 64), (0, 0), (-1, 2**40)])
def test_frames_of_other_programs_may_have_other_sizes(tmp_path, size):
    frames = [encoded(32, 32), encoded(24, 40, 50)]
    path = write_record(tmp_path / "a.tfrecord", frames, size)
    assert shown(path) == {0: 90, 1: 50}


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xff\xd8",
        b"no image",
        encoded()[:40],
        b"\xff\xd8\xff\xff" + encoded()[2:],
        tf.io.encode_png(np.zeros((32, 32, 3), np.uint8)).numpy(),
    ],
)
def test_frames_that_are_no_jpeg_are_lost(tmp_path, frame):
    path = write_record(tmp_path / "a.tfrecord", [encoded(), frame, encoded()], None)
    assert set(shown(path)) == {0, 2}


@pytest.fixture
def parts(index, tmp_path):
    """Folder of the shards of `shards`, with videos in parts of few frames."""
    folder = tmp_path / "parts"
    write_shards(index, str(folder), **SETTINGS, part_bytes=10_000)
    return folder


def contexts(shard):
    for raw in tf.data.TFRecordDataset(str(shard)):
        yield tf.train.SequenceExample.FromString(raw.numpy())


@pytest.mark.parametrize("listed", ["from sidecars", "from records"])
def test_parts_give_the_pixels_of_a_single_record(
    shards, parts, data_config, clip_config, listed
):
    if listed == "from records":
        for shard in parts.glob("*.tfrecord"):
            pathlib.Path(sidecar(str(shard))).unlink()
    found = load_index(data_config(input_path=str(parts)))
    expected = load_index(data_config(input_path=str(shards)))
    assert [(v.name, v.labels) for v in found.videos] == [
        (v.name, v.labels) for v in expected.videos
    ]
    data = data_config(num_test_clips=5)
    for split, single in zip(found.videos, expected.videos, strict=True):
        views = (read_views(v.path, data, clip_config) for v in (split, single))
        np.testing.assert_array_equal(*views)


def jpegs(example):
    frames = example.feature_lists.feature_list["image/encoded"].feature
    return [frame.bytes_list.value[0] for frame in frames]


def test_each_part_is_a_record_of_the_model_garden(shards, parts):
    name = "clips-00000-of-00002.tfrecord"
    joined, num_parts = {}, 0
    for example in contexts(parts / name):
        context = example.context.feature
        assert context["image/height"].int64_list.value[:] == [40]
        assert len(context["clip/label/index"].int64_list.value) == 1
        assert sum(map(len, jpegs(example))) <= 10_000
        video = context["clip/media_id"].bytes_list.value[0]
        joined.setdefault(video, []).extend(jpegs(example))
        num_parts += 1
    assert num_parts > 2 * len(joined)
    assert list(joined.values()) == [jpegs(e) for e in contexts(shards / name)]


def test_only_parts_with_wanted_frames_have_to_be_sound(parts):
    shard = parts / "clips-00000-of-00002.tfrecord"
    first, second = list_shard(str(shard))[:2]
    whole = shard.read_bytes()
    damaged = bytearray(whole)
    damaged[second.offset - 100] ^= 1  # in the last part of the first video
    shard.write_bytes(damaged)
    path = f"{shard}#{first.offset}"
    video = RecordFrames(path)
    last = video.num_frames - 1
    assert [n for n, _ in video.pictures(np.array([0, 3]))] == [0, 3]
    with pytest.raises(VideoError, match="#[1-9].*checksum does not match"):
        list(video.pictures(np.array([3, last])))
    shard.write_bytes(whole)
    assert [n for n, _ in RecordFrames(path).pictures(np.array([3, last]))] == [3, last]


@pytest.mark.parametrize(
    ("name", "number", "count", "reason"),
    [
        ("v", 1, 2, None),
        ("v", 2, 2, "part 1 is of another video"),
        ("w", 1, 2, "part 1 is of another video"),
        ("v", 1, 3, "part 1 has not 2 frames"),
    ],
)
def test_parts_of_different_videos_are_an_error(tmp_path, name, number, count, reason):
    later = make_record([encoded()] * count, name=name, number=[number])
    first = make_record([encoded()], num_frames=[2], num_bytes=[len(later)])
    (tmp_path / "a.tfrecord").write_bytes(first + later)
    video = RecordFrames(f"{tmp_path}/a.tfrecord#0")
    assert [n for n, _ in video.pictures(np.array([0]))] == [0]
    if reason is None:
        assert [n for n, _ in video.pictures(np.arange(3))] == [0, 1, 2]
        return
    with pytest.raises(VideoError, match=reason):
        list(video.pictures(np.arange(3)))


@pytest.mark.parametrize(
    ("num_frames", "num_bytes"),
    [([2], []), ([-1], [600]), ([2**60], [600]), ([0], [600]), ([1], [2**40])],
)
def test_impossible_parts_are_an_error(tmp_path, num_frames, num_bytes):
    parts = dict(num_frames=num_frames, num_bytes=num_bytes)
    record = make_record([encoded()], **parts) + bytes(600)
    (tmp_path / "a.tfrecord").write_bytes(record)
    with pytest.raises(VideoError, match="its later parts are cut short"):
        RecordFrames(f"{tmp_path}/a.tfrecord#0")


def test_the_path_of_a_later_part_is_an_error(parts):
    shard = str(parts / "clips-00000-of-00002.tfrecord")
    _, (second, _), *_ = TFRecordFile(shard, VideoError).offsets()
    with pytest.raises(VideoError, match="is a later part of a video"):
        RecordFrames(f"{shard}#{second}")


def test_a_video_without_its_last_parts_is_broken(parts):
    shard = parts / "clips-00000-of-00002.tfrecord"
    _, (second, length), *_ = TFRecordFile(str(shard), VideoError).offsets()
    shard.write_bytes(shard.read_bytes()[: second + length])
    with pytest.raises(VideoError, match="later parts are cut short"):
        RecordFrames(f"{shard}#0")
