import pathlib

import numpy as np
import pytest
import tensorflow as tf

from trainers.core.errors import UserError
from trainers.video_classification.data import (
    DataError,
    load_index,
    make_dataset,
    read_views,
)
from trainers.video_classification.data.tfrecords.frame_cache import FrameCache


def batches(count, data, clip, **options):
    dataset = make_dataset(load_index(data), data, clip, **options)
    return list(dataset.take(count).as_numpy_iterator())


@pytest.fixture
def cache(tmp_path):
    return FrameCache(str(tmp_path / "cache"), 40)


@pytest.fixture
def written(tmp_path):
    """The entries of the cache; a new value means that one was written again."""

    def states():
        entries = (tmp_path / "cache").iterdir()
        return {(e.name, e.stat().st_ino, e.stat().st_mtime_ns) for e in entries}

    return states


def numbers(frames, clips, wanted):
    return [clips.numbers(p.rgb()) for _, p in frames.pictures(wanted)]


def test_frames_are_kept_and_decoded_once(cache, clips, written, tmp_path):
    path = clips.write(tmp_path / "a.mp4", 20)
    states = []
    for _ in range(2):
        frames = cache.open(path, pytest.fail)
        assert frames.num_frames == 20
        assert numbers(frames, clips, np.array([0, 7, 19])) == [0, 7, 19]
        states.append(written())
    assert states[0] == states[1] and len(states[0]) == 1


def test_a_video_that_changes_is_decoded_again(cache, clips, written, tmp_path):
    path = clips.write(tmp_path / "a.mp4", 20)
    cache.open(path, pytest.fail)
    before = written()
    clips.write(tmp_path / "a.mp4", 31)
    assert cache.open(path, pytest.fail).num_frames == 31
    assert written() != before
    assert len(written()) == 1  # the old entry has been replaced


def test_another_size_is_another_entry(cache, clips, tmp_path):
    path = clips.write(tmp_path / "a.mp4", 8)
    small = FrameCache(str(tmp_path / "cache"), 20).open(path, pytest.fail)
    large = cache.open(path, pytest.fail)
    sizes = [next(s.pictures(np.array([0])))[1].size for s in (small, large)]
    assert sizes == [(20, 30), (40, 60)]


def test_a_damaged_entry_is_written_again(cache, clips, tmp_path):
    path = clips.write(tmp_path / "a.mp4", 20)
    cache.open(path, pytest.fail)
    (entry,) = (tmp_path / "cache").iterdir()
    complete = entry.read_bytes()
    entry.write_bytes(complete[:-500])
    frames = cache.open(path, pytest.fail)
    assert numbers(frames, clips, np.array([3, 19])) == [3, 19]
    assert entry.read_bytes() == complete


def test_an_interrupted_entry_does_not_appear(cache, clips, tmp_path, monkeypatch):
    path = clips.write(tmp_path / "a.mp4", 20)

    def stop(self, content):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.TFRecordWriter, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            cache.open(path, pytest.fail)
    assert not list((tmp_path / "cache").iterdir())
    assert cache.open(path, pytest.fail).num_frames == 20


def test_augmentation_is_drawn_anew_from_cached_frames(
    data_config, clip_config, tmp_path, written
):
    data = data_config(global_batch_size=9, frame_cache=str(tmp_path / "cache"))
    first, second = batches(2, data, clip_config)
    a, b = (x["clip"][np.argsort(x["video"])] for x in (first, second))
    assert all((x != y).any() for x, y in zip(a, b, strict=True))
    assert len(written()) == 9
    plain = batches(1, data_config(global_batch_size=9), clip_config)[0]
    error = np.abs(plain["clip"].astype(int) - first["clip"])
    assert error.mean() < 4  # the same windows, through JPEG


def test_a_filled_cache_gives_the_batches_that_filled_it(
    data_config, clip_config, tmp_path, written
):
    data = data_config(frame_cache=str(tmp_path / "cache"))
    whole = batches(4, data, clip_config, seed=3)
    before = written()
    late = batches(2, data, clip_config, seed=3, start_batch=2)
    for a, b in zip(whole[2:], late, strict=True):
        np.testing.assert_array_equal(a["clip"], b["clip"])
    assert len(before) == 9  # all, by the ninth sample
    assert written() == before


def test_test_views_come_from_the_cache(data_config, clip_config, tmp_path):
    data = data_config(is_training=False, frame_cache=str(tmp_path / "c"))
    got = batches(1, data, clip_config)[0]
    path = load_index(data).videos[0].path
    expected = read_views(path, data, clip_config)
    assert np.abs(got["clip"][0].astype(int) - expected[0]).mean() < 4


def test_a_folder_that_cannot_be_is_named(data_config, clip_config, tmp_path):
    (tmp_path / "file").write_text("")
    data = data_config(frame_cache=str(tmp_path / "file" / "c"))
    with pytest.raises(DataError, match="`frame_cache` .*cannot be created"):
        batches(1, data, clip_config)


def test_another_decoder_does_not_fill_it(data_config):
    with pytest.raises(UserError, match="`frame_cache` needs `decoder: pyav`"):
        data_config(frame_cache="c", decoder="tfio").check()


def test_a_folder_within_the_data_is_refused(data_config, clip_config):
    inside = pathlib.Path(data_config().input_path) / "cache"
    with pytest.raises(DataError, match="name a folder elsewhere"):
        batches(1, data_config(frame_cache=str(inside)), clip_config)
    assert not inside.exists()
