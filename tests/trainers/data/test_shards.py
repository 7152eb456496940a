import json
import multiprocessing
import pathlib
import resource
import shutil
import struct
import subprocess
import sys
import threading
import time
import uuid

import crc32c
import numpy as np
import pytest
import tensorflow as tf

from trainers.core import files
from trainers.core.files import FileError
from trainers.video_classification.data import (
    DataError,
    VideoError,
    load_index,
    make_dataset,
    read_views,
)
from trainers.video_classification.data.tfrecords.records import RecordFrames
from trainers.video_classification.data.tfrecords.shards import write_shards
from trainers.video_classification.data.tfrecords.sidecars import list_shard, sidecar

ROOT = pathlib.Path(__file__).resolve().parents[3]
SETTINGS = dict(short_side=40, quality=95, num_shards=2, workers=1)


@pytest.fixture
def index(data_config):
    return load_index(data_config())


@pytest.fixture
def shards(tmp_path, index):
    folder = tmp_path / "records"
    write_shards(index, str(folder), **SETTINGS)
    return folder


def contents(folder):
    return {p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()}


def test_records_carry_the_model_garden_names(shards, index, clips):
    shard = str(shards / "clips-00000-of-00002.tfrecord")
    raw = next(iter(tf.data.TFRecordDataset(shard)))  # TensorFlow checks the checksum
    example = tf.train.SequenceExample.FromString(raw.numpy())
    context = example.context.feature
    record = index.videos[0]
    assert context["clip/label/index"].int64_list.value[:] == list(record.labels)
    assert context["clip/label/string"].bytes_list.value[:] == [b"dive"]
    assert context["clip/media_id"].bytes_list.value[:] == [b"dive/v0.mp4"]
    assert context["image/format"].bytes_list.value[:] == [b"JPEG"]
    assert context["image/height"].int64_list.value[:] == [40]
    assert context["image/width"].int64_list.value[:] == [60]
    assert context["image/frame_rate"].float_list.value[:] == [25.0]
    frames = example.feature_lists.feature_list["image/encoded"].feature
    images = [tf.io.decode_jpeg(f.bytes_list.value[0]).numpy() for f in frames]
    assert images[0].shape == (40, 60, 3)
    assert clips.numbers(np.stack(images)).tolist() == list(range(20))


def test_the_model_gardens_decoder_reads_the_records(shards, clips):
    from official.vision.dataloaders import video_input

    from trainers.video_classification import experiments  # noqa: F401 (both register)

    shard = str(shards / "clips-00001-of-00002.tfrecord")
    *_, record = tf.data.TFRecordDataset(shard)
    decoded = video_input.Decoder().decode(record)
    assert decoded[video_input.LABEL_KEY].numpy().tolist() == [2]  # of class "run"
    encoded = decoded[video_input.IMAGE_KEY]
    images = np.stack([tf.io.decode_jpeg(frame).numpy() for frame in encoded])
    assert len(images) > 40
    assert clips.numbers(images).tolist() == list(range(len(images)))
    # And its pipeline takes the centre of the frames.
    processed = video_input.process_image(
        encoded, False, num_frames=len(images), min_resize=40, crop_size=40
    )
    np.testing.assert_allclose(processed, images[:, :, 10:50] / 255, atol=1e-5)


def test_training_on_records_sees_the_same_videos_and_frames(
    shards, index, data_config, clip_config, clips
):
    data = data_config(
        input_path=str(shards), min_short_side=36, max_short_side=36, crop_size=36
    )
    records = load_index(data)
    assert records.format == "tfrecord"
    assert records.class_names == index.class_names
    assert sorted((r.name, r.labels) for r in records.videos) == sorted(
        (r.name, r.labels) for r in index.videos
    )
    paths = {r.name: r.path for r in index.videos}
    for record in records.videos[:4]:
        from_record = read_views(record.path, data, clip_config)
        from_video = read_views(paths[record.name], data, clip_config)
        difference = np.abs(from_record.astype(int) - from_video.astype(int))
        assert difference.mean() < 6  # JPEG, and scaled twice
    batches = list(make_dataset(records, data, clip_config).take(5))
    late = next(iter(make_dataset(records, data, clip_config, start_batch=4)))
    np.testing.assert_array_equal(late["clip"], batches[4]["clip"])
    np.testing.assert_array_equal(
        late["label"], [records.videos[v].labels[0] for v in late["video"]]
    )


def test_classes_named_by_numbers_keep_their_labels(tmp_path, clips, data_config):
    for name in ("1", "2"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        clips.write(tmp_path / "videos" / name / "v.mp4", 3)
    index = load_index(data_config(input_path=str(tmp_path / "videos")))
    write_shards(index, str(tmp_path / "records"), **SETTINGS)
    records = load_index(data_config(input_path=str(tmp_path / "records")))
    assert records.class_names == ("1", "2")
    assert [(r.name, r.labels) for r in records.videos] == [
        ("1/v.mp4", (0,)),
        ("2/v.mp4", (1,)),
    ]


def test_shards_from_elsewhere_need_no_json(shards, data_config):
    with_json = load_index(data_config(input_path=str(shards)))
    for shard in shards.glob("*.tfrecord"):
        listed = list_shard(str(shard))
        pathlib.Path(sidecar(str(shard))).unlink()
        assert list_shard(str(shard)) == listed
    without = load_index(data_config(input_path=str(shards / "clips-*.tfrecord")))
    assert without.videos == with_json.videos


def test_a_second_run_keeps_finished_shards(shards, index):
    before = contents(shards)
    lost = shards / "clips-00001-of-00002.tfrecord"
    lost.unlink()
    part = shards / f".{lost.name}.{16 * '0'}.part"  # of a run that was killed
    part.write_text("half a shard")
    kept = shards / "clips-00000-of-00002.tfrecord"
    state = kept.stat()
    write_shards(index, str(shards), **SETTINGS)
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (
        state.st_ino,
        state.st_mtime_ns,
    )
    assert contents(shards) == before


def test_an_interrupted_shard_does_not_appear(tmp_path, index, monkeypatch):
    original, calls = tf.io.TFRecordWriter.write, []

    def write(self, payload):
        calls.append(payload)
        if len(calls) == 8:  # in the second shard: the first has five videos
            raise KeyboardInterrupt
        return original(self, payload)

    monkeypatch.setattr(tf.io.TFRecordWriter, "write", write)
    with pytest.raises(KeyboardInterrupt):
        write_shards(index, str(tmp_path), **SETTINGS)
    assert not list(tmp_path.glob("*00001-of*")) and not list(tmp_path.glob(".*"))


def test_other_settings_do_not_mix_with_finished_shards(shards, index):
    with pytest.raises(DataError, match="other settings.*--output_dir"):
        write_shards(index, str(shards), **(SETTINGS | dict(quality=50)))
    with pytest.raises(DataError, match="other settings"):
        write_shards(index, str(shards), **(SETTINGS | dict(num_shards=3)))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_is_an_error_and_finished_shards_are_kept(
    small_disk, tmp_path, index, workers
):
    settings = SETTINGS | dict(num_shards=3, workers=workers)
    write_shards(index, str(tmp_path / "whole"), **settings)
    whole = contents(tmp_path / "whole")
    disk = small_disk(sum(map(len, whole.values())) * 2 // 3)
    with pytest.raises(FileError, match=rf"{disk}/clips-0.*No space left.*Make room"):
        write_shards(index, str(disk), **settings)
    kept = contents(disk)
    assert kept.items() <= whole.items()
    assert workers > 1 or any(name.endswith(".tfrecord") for name in kept)
    assert not any(name.endswith(".part") for name in kept)


def test_a_read_only_disk_is_an_error(small_disk, make_read_only, index):
    disk = small_disk(1 << 20)
    make_read_only(disk)
    with pytest.raises(FileError, match=rf"{disk}/clips-.*Read-only file system"):
        write_shards(index, str(disk), **SETTINGS)
    with pytest.raises(FileError, match=rf"{disk}/new: .*Read-only file system"):
        write_shards(index, str(disk / "new"), **SETTINGS)


def test_shards_on_a_remote_disk_are_those_on_a_local_one(
    shards, index, data_config, clip_config
):
    folder = f"ram://{uuid.uuid4().hex}/records"
    write_shards(index, folder, **SETTINGS)
    found = {
        name: files.read_bytes(f"{folder}/{name}") for name in files.listdir(folder)
    }
    assert found == contents(shards)
    assert not pathlib.Path("ram:").exists()
    data = data_config(input_path=folder)
    remote, local = load_index(data), load_index(data_config(input_path=str(shards)))
    for a, b in zip(remote.videos, local.videos, strict=True):
        assert (a.name, a.labels) == (b.name, b.labels)
        views = (read_views(v.path, data, clip_config) for v in (a, b))
        np.testing.assert_array_equal(*views)
    files.remove(f"{folder}/clips-00001-of-00002.tfrecord")
    write_shards(index, folder, **SETTINGS)
    assert files.exists(f"{folder}/clips-00001-of-00002.tfrecord")


def test_killed_workers_are_an_error_and_finished_shards_are_kept(tmp_path, index):
    settings = SETTINGS | dict(num_shards=3)
    write_shards(index, str(tmp_path), **settings)
    whole = contents(tmp_path)
    for name in whole:
        if not name.startswith("clips-00001"):
            (tmp_path / name).unlink()
    kept = contents(tmp_path)

    def kill_workers():
        while len(workers := multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        time.sleep(0.2)  # the pool knows both, and both are still importing
        for worker in workers:
            worker.kill()

    killer = threading.Thread(target=kill_workers, daemon=True)
    killer.start()
    with pytest.raises(DataError, match="worker process was killed.*fewer --workers"):
        write_shards(index, str(tmp_path), **(settings | dict(workers=2)))
    killer.join()
    assert contents(tmp_path) == kept
    write_shards(index, str(tmp_path), **settings)
    assert contents(tmp_path) == whole


def test_broken_videos_are_left_out_and_reported(tmp_path, video_folder, data_config):
    folder = tmp_path / "videos"
    shutil.copytree(video_folder, folder)
    (folder / "jump" / "v1.mp4").write_text("not a video")
    index = load_index(data_config(input_path=str(folder)))
    summary = write_shards(index, str(tmp_path / "records"), **SETTINGS)
    assert summary.num_written == 8
    assert list(summary.left_out) == [str(folder / "jump" / "v1.mp4")]
    assert json.loads((tmp_path / "records/report.json").read_text()) == {
        "num_written": 8,
        "left_out": summary.left_out,
        "damaged": {},
    }
    assert len(load_index(data_config(input_path=str(tmp_path / "records")))) == 8


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


def encoded(height=32, width=32, value=90):
    return tf.io.encode_jpeg(np.full((height, width, 3), value, np.uint8)).numpy()


def forged(jpeg, height, width):
    """A JPEG image with another size in its header."""
    start = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:start] + struct.pack(">HH", height, width) + jpeg[start + 4 :]


def masked_checksum(content):
    crc = crc32c.crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def framed(payload, length=None):
    """A record with valid checksums, whatever its length says."""
    header = struct.pack("<Q", len(payload) if length is None else length)
    checksums = (struct.pack("<I", masked_checksum(c)) for c in (header, payload))
    return header + next(checksums) + payload + next(checksums)


def write_record(path, frames, size=(32, 32)):
    """Writes a shard of one record; None is a frame without bytes."""
    example = tf.train.SequenceExample()
    for key, side in zip(("image/height", "image/width"), size or (), strict=False):
        example.context.feature[key].int64_list.value.append(side)
    feature = example.feature_lists.feature_list["image/encoded"].feature
    for frame in frames:
        feature.add().bytes_list.value.extend([] if frame is None else [frame])
    path.write_bytes(framed(example.SerializeToString()))
    return f"{path}#0"


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
    found = shown(path)
    if size or side > 8192:
        assert found == {0: 90, 1: 90, 3: 90}
    else:  # a smaller frame, in a record that does not say how large they are
        assert set(found) == {0, 1, 2, 3}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3 << 20


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


DAMAGED = ["", "[]", "{}", '"records"', "\xff", '{"records": 1', "\0" * 64]


@pytest.mark.parametrize("text", DAMAGED)
@pytest.mark.parametrize("name", ["clips-00000-of-00002.json", "index.json"])
def test_a_damaged_json_file_is_replaced_by_the_other_files(
    shards, data_config, name, text, caplog
):
    expected = load_index(data_config(input_path=str(shards)))
    (shards / name).write_text(text, encoding="latin-1")
    assert load_index(data_config(input_path=str(shards))) == expected
    assert name in caplog.text and "instead" in caplog.text


@pytest.mark.parametrize("name", ["clips-00000-of-00002.json", "index.json"])
def test_flipped_bits_in_json_files_change_nothing(shards, data_config, name):
    expected = load_index(data_config(input_path=str(shards)))
    whole = (shards / name).read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 40).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        (shards / name).write_bytes(damaged)
        assert load_index(data_config(input_path=str(shards))) == expected


def test_damaged_class_names_are_an_error_where_no_file_has_them(shards, data_config):
    for path in shards.glob("*.json"):
        path.write_text("")
    with pytest.raises(FileError, match=r"index\.json: is empty"):
        load_index(data_config(input_path=str(shards)))


@pytest.mark.parametrize(
    "records", ["7", "[7]", '[{"name": "v"}]', '[["a", 0, 1]]', '[[-1, "v", [0]]]']
)
def test_a_sidecar_of_other_records_is_not_used(shards, data_config, records, caplog):
    expected = load_index(data_config(input_path=str(shards)))
    beside = shards / "clips-00000-of-00002.json"
    beside.write_text(f'{{"records": {records}}}')
    assert load_index(data_config(input_path=str(shards))) == expected
    assert f"{beside}: has no 'records'" in caplog.text


def test_a_foreign_json_is_not_written_over(shards, index):
    (shards / "clips-00000-of-00002.json").write_text("{}")
    with pytest.raises(DataError, match="of-00002.json: was not written by"):
        write_shards(index, str(shards), **SETTINGS)


@pytest.mark.parametrize("text", ["", "{", "\0" * 4096])
@pytest.mark.parametrize("suffix", ["json", "tfrecord"])
def test_files_cut_by_a_power_failure_are_written_again(shards, index, text, suffix):
    whole = contents(shards)
    for name in (f"clips-00001-of-00002.{suffix}", "index.json", "report.json"):
        (shards / name).write_text(text)
    write_shards(index, str(shards), **SETTINGS)
    assert contents(shards) == whole


def test_labels_beyond_the_class_names_are_named(shards, data_config):
    (shards / "index.json").write_text('{"class_names": ["dive", "jump"]}')
    with pytest.raises(DataError, match=r"tfrecord#\d+: has labels \(2,\).* 2 classes"):
        load_index(data_config(input_path=str(shards)))


def run(*args, cwd=ROOT):
    return subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,  # imports are slow on a busy machine
    )


def test_the_command_works_from_anywhere(tmp_path, video_folder):
    script = ROOT / "trainers" / "prepare_video.py"
    done = run(
        script,
        f"--input_path={video_folder}",
        f"--output_dir={tmp_path / 'records'}",
        "--num_shards=2",
        "--workers=2",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "9 videos written" in done.stdout
    assert "9/9" in done.stderr  # the progress bar
    assert len(list((tmp_path / "records").glob("*.tfrecord"))) == 2


def test_the_command_reads_a_config_and_fails_without_any_video(tmp_path):
    (tmp_path / "v.mp4").write_text("not a video")
    (tmp_path / "list.txt").write_text("v.mp4 0 1\n")  # the format of mmaction2
    (tmp_path / "a.yaml").write_text(
        "experiment: charades\n"
        f"task: {{validation_data: {{input_path: {tmp_path / 'list.txt'}}}}}\n"
    )
    done = run(
        "-m",
        "trainers.prepare_video",
        f"--config={tmp_path / 'a.yaml'}",
        "--data=validation_data",
        "--params_override=task.validation_data.index_format=mmaction2",
        f"--output_dir={tmp_path / 'records'}",
    )
    assert done.returncode == 1
    assert "left out: " + str(tmp_path / "v.mp4") in done.stdout
    assert "error: None of the videos could be decoded" in done.stderr
    assert "Traceback" not in done.stderr
