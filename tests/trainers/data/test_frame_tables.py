"""A clip reads only its frames of a record, and all that it reads is checked."""

import pathlib
import uuid

import numpy as np
import pytest

from tests.trainers.data.record_files import SETTINGS
from trainers.core import files
from trainers.core.tfrecord_file import TFRecordFile
from trainers.video_classification.data import VideoError, load_index, write_video
from trainers.video_classification.data.tfrecords.frame_tables import (
    make_table,
    read_table,
    table_file,
    write_tables,
)
from trainers.video_classification.data.tfrecords.records import RecordFrames
from trainers.video_classification.data.tfrecords.shards import write_shards

WANTED = np.array([3, 5, 11])


@pytest.fixture(params=["one record", "parts"])
def shard(request, index, tmp_path):
    """Path of a shard of nine videos, with its tables."""
    size = {"part_bytes": 10_000} if request.param == "parts" else {}
    write_shards(index, str(tmp_path), **(SETTINGS | size | {"num_shards": 1}))
    return tmp_path / "clips-00000-of-00001.tfrecord"


def tables_of(shard):
    return pathlib.Path(table_file(str(shard)))


def pictures(shard, offset=0, wanted=WANTED):
    found = RecordFrames(f"{shard}#{offset}").pictures(wanted)
    return {number: picture.rgb() for number, picture in found}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for number, pixels in expected.items():
        np.testing.assert_array_equal(found[number], pixels)


def test_frames_are_those_of_whole_records(shard, data_config):
    offsets = [
        int(video.path.rpartition("#")[2])
        for video in load_index(data_config(input_path=str(shard))).videos
    ]
    found = [pictures(shard, offset) for offset in offsets]
    tables_of(shard).unlink()
    assert len(found) == 9
    for one, offset in zip(found, offsets, strict=True):
        assert len(one) == 3
        assert_same(one, pictures(shard, offset))


def test_tables_work_on_remote_disks(index, shard):
    folder = f"ram://{uuid.uuid4().hex}"
    write_shards(index, folder, **(SETTINGS | {"num_shards": 1}))
    remote = files.join(folder, shard.name)
    assert read_table(remote, 0) is not None
    assert_same(pictures(remote), pictures(shard))


def test_every_bit_of_the_frames_read_is_checked(shard):
    """Those of others are not read."""
    sound, whole = pictures(shard), shard.read_bytes()
    rows = read_table(str(shard), 0)
    spans = [range(start, start + count) for start, count, _ in rows.tolist()]
    is_read = [0, *(WANTED + 1)]  # the context, and the frames
    is_read = [row for row in is_read if row < len(spans)]  # others are in parts
    random = np.random.default_rng(0)
    for row, span in enumerate(spans):
        for place in random.choice(span, 2).tolist():
            damaged = bytearray(whole)
            damaged[12 + place] ^= 1 << place % 8
            shard.write_bytes(damaged)
            if row in is_read:
                with pytest.raises(VideoError, match="checksum does not match"):
                    pictures(shard)
            else:
                assert_same(pictures(shard), sound)


def test_most_frames_are_read_with_the_record_and_its_checksum(shard):
    whole, num_frames = shard.read_bytes(), RecordFrames(f"{shard}#0").num_frames
    start, count, _ = read_table(str(shard), 0)[-1].tolist()
    shard.write_bytes(whole[: 12 + start + count] + b"x" + whole[13 + start + count :])
    assert len(pictures(shard, wanted=WANTED)) == 3
    with pytest.raises(VideoError, match="checksum does not match"):
        pictures(shard, wanted=np.arange(num_frames))


def test_damaged_tables_are_not_used(shard):
    sound, tables = pictures(shard), tables_of(shard)
    whole = tables.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 60).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        tables.write_bytes(damaged)
        assert_same(pictures(shard), sound)
    for content in (b"", whole[:20], b"text" * 10):
        tables.write_bytes(content)
        assert_same(pictures(shard), sound)


def test_tables_of_other_records_are_not_used(shard):
    sound = pictures(shard)
    file = TFRecordFile(str(shard), VideoError)
    (offset, _), *_, (other, _) = file.offsets()
    write_tables(str(shard), {offset: make_table(file.payload(other))})
    assert_same(pictures(shard), sound)


def test_tables_that_lack_frames_are_an_error(shard):
    table = read_table(str(shard), 0).copy()
    table[4, 2] ^= 1
    write_tables(str(shard), {0: table[:-1].tobytes()})
    with pytest.raises(VideoError, match=r"\.frames is of another shard: remove it"):
        pictures(shard)


def test_shards_without_tables_get_them_and_are_kept(shard, index):
    tables, state = tables_of(shard), files.state(shard)
    before = tables.read_bytes()
    tables.unlink()
    is_in_parts = len(list(TFRecordFile(str(shard), VideoError).offsets())) > 9
    size = {"part_bytes": 10_000} if is_in_parts else {}
    write_shards(index, str(shard.parent), **(SETTINGS | size | {"num_shards": 1}))
    assert tables.read_bytes() == before
    assert files.state(shard) == state


def test_a_clip_reads_few_bytes_more_than_its_frames(tmp_path, data_config):
    """Of a video of 3 MB, with frames of 50 kB."""
    (tmp_path / "videos" / "a").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (60, 160, 240, 3), np.uint8)
    write_video(str(tmp_path / "videos" / "a" / "v.mp4"), noise)
    index = load_index(data_config(input_path=str(tmp_path / "videos")))
    write_shards(index, str(tmp_path), **(SETTINGS | {"short_side": 160}))
    shard = tmp_path / "clips-00000-of-00001.tfrecord"
    needed = read_table(str(shard), 0)[WANTED + 1, 1].sum()
    assert shard.stat().st_size > 15 * needed
    before = bytes_read()
    assert len(pictures(shard)) == 3
    assert needed <= bytes_read() - before < needed + 60_000
    tables_of(shard).unlink()
    before = bytes_read()
    pictures(shard)
    assert bytes_read() - before >= shard.stat().st_size


def bytes_read():
    """By this process, from files and all else."""
    fields = pathlib.Path("/proc/self/io").read_text().split()
    return int(fields[fields.index("rchar:") + 1])
