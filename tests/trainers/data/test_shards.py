import json
import multiprocessing
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import uuid

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.data.record_files import SETTINGS
from trainers.core import files
from trainers.core.failures import FailureLog
from trainers.core.files import FileError
from trainers.video_classification.data import (
    DataError,
    load_index,
    make_dataset,
    read_views,
)
from trainers.video_classification.data.tfrecords.records import PART_BYTES
from trainers.video_classification.data.tfrecords.shards import write_shards

ROOT = pathlib.Path(__file__).resolve().parents[3]


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


@pytest.mark.parametrize(
    ("workers", "part_bytes"),
    [(1, PART_BYTES), (1, 5_000), pytest.param(2, PART_BYTES, marks=pytest.mark.slow)],
)
def test_a_full_disk_is_an_error_and_finished_shards_are_kept(
    small_disk, tmp_path, index, workers, part_bytes
):
    settings = dict(num_shards=3, workers=workers, part_bytes=part_bytes)
    settings = SETTINGS | settings
    write_shards(index, str(tmp_path / "whole"), **settings)
    whole = contents(tmp_path / "whole")
    disk = small_disk(sum(map(len, whole.values())) * 2 // 3)
    with pytest.raises(FileError, match=rf"{disk}/clips-0.*No space left.*Make room"):
        write_shards(index, str(disk), **settings)
    kept = contents(disk)
    assert kept.items() <= whole.items()
    assert workers > 1 or any(name.endswith(".tfrecord") for name in kept)
    assert not any(name.endswith(".part") for name in kept)
    assert not multiprocessing.active_children()


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


def run(*args, cwd=ROOT):
    return subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,  # imports are slow on a busy machine
    )


@pytest.mark.slow
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
        "task: {validation_data: {video_root: '', "
        f"input_path: {tmp_path / 'list.txt'}}}}}\n"
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


def test_a_broken_record_is_reported_with_the_name_of_its_video(
    shards, data_config, clip_config
):
    shard = shards / "clips-00000-of-00002.tfrecord"
    content = bytearray(shard.read_bytes())
    content[40] ^= 1  # in the first record, not in a frame
    shard.write_bytes(content)
    data = data_config(input_path=str(shards), is_training=False)
    failures = FailureLog(1.0)
    for _ in make_dataset(load_index(data), data, clip_config, failures=failures):
        pass
    (reason,) = failures.failures.values()
    assert reason.endswith(" (dive/v0.mp4)")
