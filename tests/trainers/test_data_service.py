"""Training from a tf.data service whose dispatcher and workers are real processes."""

import json
import pathlib
import shutil
import socket
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.runs import finish, start
from tests.trainers.service_processes import Service
from trainers.core.errors import UserError
from trainers.video_classification.data import (
    DataError,
    FailureLog,
    TooManyBroken,
    load_index,
    make_dataset,
    service_worker,
)
from trainers.video_classification.data import service as client
from trainers.video_classification.data.augmentation_configs import (
    AugmentationConfig,
    MixupAndCutmixConfig,
    RandAugmentConfig,
)
from trainers.video_classification.data.configs import ClipConfig, DataConfig
from trainers.video_classification.data.samples import SampleReader

CLIP = ClipConfig(num_frames=4, temporal_stride=2)
TRAIN = "task.train_data"


def data_config(videos, **settings):
    defaults = {
        "is_training": True,
        "global_batch_size": 3,
        "min_short_side": 32,
        "max_short_side": 36,
        "crop_size": 32,
        "max_broken_fraction": 0.5,
    }
    return DataConfig(input_path=str(videos / "train"), **defaults | settings)


def of_service(videos, service, **settings):
    return data_config(
        videos,
        enable_tf_data_service=True,
        tf_data_service_address=service.address,
        **settings,
    )


def read(data, count, **options):
    """The first batches."""
    index = load_index(data)
    batches = make_dataset(index, data, CLIP, seed=3, **options)
    return list(batches.take(count).as_numpy_iterator())


def assert_same(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        for key in b:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory):
    """Nine videos, none of them broken."""
    folder = tmp_path_factory.mktemp("whole")
    ignored = shutil.ignore_patterns("text.mp4")
    shutil.copytree(videos / "train", folder / "train", ignore=ignored)
    return folder


@pytest.fixture(scope="module")
def service():
    service = Service(2)
    yield service
    service.close()


# === Settings (no process is needed) ===


def test_a_service_needs_an_address(videos):
    with pytest.raises(UserError, match="needs `tf_data_service_address`, such as"):
        data_config(videos, enable_tf_data_service=True).check()


def test_evaluation_does_not_use_the_service(videos):
    data = data_config(videos, enable_tf_data_service=True)
    data.is_training = False
    with pytest.raises(UserError, match="is for train_data.*Leave it out"):
        data.check()


# === Paths (the functions of a trainer and a worker, in this process) ===


@pytest.fixture
def folder(whole, tmp_path, monkeypatch):
    """The working directory: a list file beside a folder of videos."""
    shutil.copytree(whole / "train", tmp_path / "train")
    paths = sorted((tmp_path / "train").rglob("*.mp4"))
    lines = [f"{x.relative_to(tmp_path)},{i % 3}" for i, x in enumerate(paths)]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def relative(path, root="", **settings):
    data = data_config(pathlib.Path(), video_root=root, **settings)
    data.input_path = path
    return data


def reader_of(data):
    return SampleReader(load_index(data), data, CLIP, 3, FailureLog(0.5))


def batch_of_worker(reader, monkeypatch):
    """The first batch, of a worker that was started in another directory."""
    context = tf.distribute.InputContext()
    request = client._request(reader, context, [tf.uint8]).encode()
    with monkeypatch.context() as patch:
        patch.chdir("/")
        report, *values = service_worker.make_batch(request, 0)
    client._take_over(tf.constant(report), reader)
    return values


@pytest.mark.parametrize(
    ("path", "root"),
    [("train", ""), ("./list.csv", ""), ("list.csv", "train/..")],
)
def test_a_worker_finds_the_videos_of_a_relative_path(folder, monkeypatch, path, root):
    reader = reader_of(relative(path, root, enable_tf_data_service=True))
    values = batch_of_worker(reader, monkeypatch)
    (expected,) = read(relative(path, root), 1)
    for value, name in zip(values, sorted(expected), strict=True):
        np.testing.assert_array_equal(value, expected[name])
    assert reader.failures.num_read == 3
    for number in expected["video"]:  # as if this process read them, too
        reader.failures.attempt(reader.index.videos[number].path)
    assert reader.failures.num_read == 3


@pytest.mark.parametrize("path", ["train", "list.csv"])
def test_the_first_video_that_differs_is_named(folder, monkeypatch, path):
    reader = reader_of(relative(path, enable_tf_data_service=True))
    (folder / "train" / "green" / "1.mp4").unlink()
    with pytest.raises(DataError) as info:
        batch_of_worker(reader, monkeypatch)
    green, label = folder / "train" / "green", 1 if path == "train" else 2
    assert (
        f"number 5 is {green}/1.mp4 (label 1) here, and {green}/2.mp4 (label {label}) "
        "there."
    ) in str(info.value)
    assert f"{folder / path}: the data worker on {socket.gethostname()}" in str(
        info.value
    )


def test_a_worker_reads_a_wrong_index_once(folder):
    """It is asked for many batches before the trainer has ended."""
    reader = reader_of(relative("list.csv", enable_tf_data_service=True))
    request = client._request(reader, tf.distribute.InputContext(), [tf.uint8])
    lines = (folder / "list.csv").read_text()
    (folder / "list.csv").write_text("nothing")
    first, *values = service_worker.make_batch(request.encode(), 0)
    assert "list.csv" in json.loads(first)["error"]
    assert [x.size for x in values] == [0]
    (folder / "list.csv").write_text(lines)
    assert service_worker.make_batch(request.encode(), 1)[0] == first


# === Batches ===


@pytest.mark.slow
def test_a_dispatcher_prints_its_address_for_other_machines(service):
    assert service.address.startswith("grpc://localhost:")
    port = service.address.rpartition(":")[2]
    assert f"from other machines grpc://{socket.gethostname()}:{port}" in service.line


@pytest.mark.slow
def test_every_example_comes_once_an_epoch(whole, service, monkeypatch):
    """In the order, and with the pixels, of a training without the service."""
    monkeypatch.chdir(whole)  # the workers were started elsewhere
    got = read(of_service(pathlib.Path(), service), 3 * 8)
    for epoch in range(8):
        seen = [batch["video"] for batch in got[3 * epoch : 3 * epoch + 3]]
        assert sorted(np.concatenate(seen)) == list(range(9))
    assert_same(got, read(data_config(whole), 3 * 8))


@pytest.mark.slow
def test_a_video_that_workers_find_broken_is_replaced_and_reported(videos, service):
    log = FailureLog(0.5)
    got = read(of_service(videos, service), 20, failures=log)
    assert_same(got, read(data_config(videos), 20))
    assert [path.rpartition("/")[2] for path in log.failures] == ["text.mp4"]
    assert log.num_read == 10


@pytest.mark.slow
def test_it_starts_at_any_batch_and_feeds_several_input_pipelines(videos, service):
    data = of_service(videos, service, global_batch_size=8)
    local = data_config(videos, global_batch_size=8)
    for pipeline in range(2):
        options = {
            "input_context": tf.distribute.InputContext(2, pipeline, 4),
            "start_batch": 5,
        }
        assert_same(read(data, 8, **options), read(local, 8, **options))


@pytest.mark.slow
def test_clips_are_augmented_as_without_the_service(whole, service):
    randaug = RandAugmentConfig(exclude_ops=("Equalize", "AutoContrast"))
    settings = {
        "global_batch_size": 4,
        "aug_type": AugmentationConfig(type="randaug", randaug=randaug),
        "mixup_and_cutmix": MixupAndCutmixConfig(mixup_alpha=0.8, cutmix_alpha=1.0),
    }
    one_each = {"input_context": tf.distribute.InputContext(1, 0, 4)}
    got = read(of_service(whole, service, **settings), 8, **one_each)
    assert_same(got, read(data_config(whole, **settings), 8, **one_each))


@pytest.mark.slow
def test_too_many_broken_videos_end_the_run(videos, service):
    data, log = of_service(videos, service), FailureLog(0.0)
    with pytest.raises(tf.errors.OpError):
        read(data, 50, failures=log)
    assert isinstance(log.error, TooManyBroken)
    assert "text.mp4" in str(log.error)


@pytest.mark.slow
def test_a_worker_that_sees_other_videos_is_an_error(videos, service, tmp_path):
    shutil.copytree(videos / "train", tmp_path / "train")
    data, log = of_service(tmp_path, service), FailureLog(0.5)
    index = load_index(data)
    (tmp_path / "train" / "red" / "0.mp4").unlink()
    batches = make_dataset(index, data, CLIP, failures=log)
    with pytest.raises(tf.errors.OpError):
        next(iter(batches))
    assert isinstance(log.error, DataError)
    message = str(log.error)
    assert f"the data worker on {socket.gethostname()} has other videos" in message
    assert "red/0.mp4 (label 2) here, and " in message


# === Training ===


@pytest.fixture(scope="module")
def expected(config, tmp_path_factory):
    """Folder of a training without the service."""
    folder = tmp_path_factory.mktemp("expected")
    finish(start(config, folder))
    return folder


def checkpoint(folder):
    reader = tf.train.load_checkpoint(str(folder / "ckpt-60"))
    return {
        name: reader.get_tensor(name) for name in reader.get_variable_to_dtype_map()
    }


@pytest.mark.slow
def test_training_goes_on_when_workers_are_killed(config, expected, tmp_path):
    """One worker, then all: the weights are those of a training without a service."""
    service = Service(2)
    try:
        process = start(
            config,
            tmp_path,
            f"{TRAIN}.enable_tf_data_service=true",
            f"{TRAIN}.tf_data_service_address={service.address}",
        )
        for saved, worker in zip((4, 16), service.workers, strict=True):
            wait_for(tmp_path / f"ckpt-{saved}.index", process)
            worker.kill()
        finish(process)
    finally:
        service.close()
    found, wanted = checkpoint(tmp_path), checkpoint(expected)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
def test_an_address_without_a_service_ends_the_command_in_a_minute(config, tmp_path):
    process = start(
        config,
        tmp_path,
        f"{TRAIN}.enable_tf_data_service=true",
        f"{TRAIN}.tf_data_service_address=grpc://localhost:1",
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: No tf.data service answers at grpc://localhost:1." in errors
    assert "Traceback" not in errors
