import json
import multiprocessing
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from trainers.core.files import FileError
from trainers.video_classification.data import (
    DataError,
    VideoError,
    load_index,
    make_dataset,
    read_views,
)
from trainers.video_classification.data.tfrecords.records import (
    list_shard,
    make_example,
    sidecar,
)
from trainers.video_classification.data.tfrecords.shards import write_shards

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
    (shards / ".clips-00001-of-00002.tfrecord.part").write_text("half a shard")
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


def test_a_full_disk_is_an_error_and_leaves_no_half_shard(tmp_path, index, monkeypatch):
    class FullDisk:
        def __init__(self, path):
            self.file = open(path, "wb")

        def __enter__(self):
            return self

        def __exit__(self, *args):
            self.file.close()

        def write(self, data):
            self.file.write(data[:10])
            raise tf.errors.ResourceExhaustedError(None, None, "No space left")

    monkeypatch.setattr(tf.io, "TFRecordWriter", FullDisk)
    with pytest.raises(FileError, match="cannot be written .*No space left"):
        write_shards(index, str(tmp_path), **SETTINGS)
    assert not list(tmp_path.iterdir())


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
    with pytest.raises(VideoError, match="damaged or cut short"):
        read_views(path, data_config(), clip_config)
    pathlib.Path(sidecar(str(shard))).unlink()
    with pytest.raises(DataError, match="00000-of-00002.tfrecord: record at byte"):
        load_index(data_config(input_path=str(shard)))


def test_a_record_of_impossible_length_is_a_broken_video(
    shards, data_config, clip_config
):
    shard = shards / "clips-00000-of-00002.tfrecord"
    data = bytearray(shard.read_bytes())
    data[6] = 0xFF  # of the length
    shard.write_bytes(data)
    with pytest.raises(VideoError, match="damaged or cut short"):
        read_views(f"{shard}#0", data_config(), clip_config)


def test_records_of_something_else_are_refused(tmp_path, data_config, clip_config):
    path = str(tmp_path / "other.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(b"\x0a\x05hello, this is text")
    with pytest.raises(DataError, match="at byte 0 is not a SequenceExample"):
        load_index(data_config(input_path=path))
    with pytest.raises(VideoError, match="not a SequenceExample"):
        read_views(f"{path}#0", data_config(), clip_config)


def test_frames_without_bytes_are_lost_frames(tmp_path, data_config, clip_config):
    jpeg = tf.io.encode_jpeg(np.full((32, 32, 3), 90, np.uint8)).numpy()
    path = str(tmp_path / "empty.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for present in (range(8), range(0, 8, 4)):
            example = make_example([], (32, 32), 25.0, [0], ["a"], "v")
            frames = example.feature_lists.feature_list["image/encoded"].feature
            for number in range(8):
                value = frames.add().bytes_list.value
                value.extend([jpeg] if number in present else [])
            writer.write(example.SerializeToString())
    good, broken = (r.path for r in load_index(data_config(input_path=path)).videos)
    assert (read_views(good, data_config(), clip_config) == 90).all()
    clip_config.temporal_stride = 1  # frames 2 to 5, of which only 4 is there
    with pytest.raises(VideoError, match="only 1 of the 4 frames wanted"):
        read_views(broken, data_config(), clip_config)


@pytest.mark.parametrize("text", ["", "[]", "{}", '"records"', "\xff"])
@pytest.mark.parametrize("name", ["clips-00000-of-00002.json", "index.json"])
def test_a_foreign_json_is_named(shards, data_config, name, text):
    (shards / name).write_text(text, encoding="latin-1")
    with pytest.raises(FileError, match=f"{name}: (has no '|is ).*Remove it"):
        load_index(data_config(input_path=str(shards)))


@pytest.mark.parametrize("records", ["7", "[7]", '[{"name": "v"}]', '[["a", 0, 1]]'])
def test_a_json_of_other_records_is_named(shards, data_config, records):
    beside = shards / "clips-00000-of-00002.json"
    beside.write_text(f'{{"records": {records}}}')
    with pytest.raises(DataError, match=f"{beside}: its records are not"):
        load_index(data_config(input_path=str(shards)))


def test_a_foreign_json_is_not_written_over(shards, index):
    (shards / "clips-00000-of-00002.json").write_text("{}")
    with pytest.raises(FileError, match="of-00002.json: has no 'fingerprint'"):
        write_shards(index, str(shards), **SETTINGS)


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
