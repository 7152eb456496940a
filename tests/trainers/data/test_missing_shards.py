"""Shards that are removed from a set are reported, with the videos in them."""

import pytest

from trainers.video_classification import check_data
from trainers.video_classification.configs import VideoClassificationConfig
from trainers.video_classification.data import DataError, load_index
from trainers.video_classification.data.tfrecords.shard_sets import missing_shards
from trainers.video_classification.data.tfrecords.shards import write_shards
from trainers.video_classification.task import VideoClassificationTask

NAME = "clips-00001-of-00002"


@pytest.fixture
def load(data_config, shards):
    """Function: reads the folder of shards, or a glob in it."""
    return lambda glob="": load_index(data_config(input_path=str(shards / glob)))


@pytest.mark.parametrize("glob", ["", "clips-*.tfrecord"])
def test_a_removed_shard_is_named_and_its_videos_are_missing(
    shards, load, glob, caplog
):
    whole = load(glob)
    assert not whole.missing and "missing" not in caplog.text
    (shards / f"{NAME}.tfrecord").unlink()
    left = load(glob)
    assert f"missing shards (1): {shards / NAME}.tfrecord" in caplog.text
    present = {video.path for video in left.videos}
    assert present | set(left.missing) == {video.path for video in whole.videos}
    assert len(left.missing) == len(whole) - len(left) > 0
    assert left.class_names == whole.class_names


def test_a_shard_that_is_removed_with_its_sidecar_is_missing_itself(
    shards, load, caplog
):
    for suffix in ("tfrecord", "json"):
        (shards / f"{NAME}.{suffix}").unlink()
    assert load().missing == (f"{shards / NAME}.tfrecord",)
    assert NAME in caplog.text


def test_a_part_of_a_set_that_is_asked_for_is_whole(shards, load, caplog):
    (shards / f"{NAME}.tfrecord").unlink()
    assert not load("clips-00000*.tfrecord").missing
    assert not load("clips-00000-of-00002.tfrecord").missing
    assert not caplog.text


def test_sidecars_without_any_shard_are_an_error(shards, load):
    for path in shards.glob("*.tfrecord"):
        path.unlink()
    with pytest.raises(DataError, match=r"missing shards \(2\): .*" f"{NAME}"):
        load()


def test_check_data_counts_the_videos_of_a_removed_shard(shards, capsys):
    (shards / f"{NAME}.tfrecord").unlink()
    config = VideoClassificationConfig()
    config.train_data.input_path = str(shards)
    assert check_data.run(VideoClassificationTask(config)) == 1
    printed = capsys.readouterr().out
    assert ["missing", "4"] in map(str.split, printed.splitlines())
    assert f"{shards / NAME}.tfrecord#0: no such file" in printed


def test_a_set_has_one_prefix_and_one_count():
    names = ["a-00000-of-00002.tfrecord", "a-00002-of-00003.json", "b-1-of-2.tfrecord"]
    assert missing_shards(names, "a-*-of-00003*") == [
        f"a-0000{i}-of-00003.tfrecord" for i in range(3)
    ]
    assert len(missing_shards(names)) == 4
    assert missing_shards(["clips.tfrecord", "index.json"]) == []


def test_sidecars_of_another_set_are_not_written_beside(shards, index):
    for path in shards.glob("*.tfrecord"):
        path.unlink()
    with pytest.raises(DataError, match=r"of-00002\.json: was written from other"):
        write_shards(index, str(shards), num_shards=3, workers=1)
