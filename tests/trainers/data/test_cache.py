import pathlib

import numpy as np
import pytest

from trainers.video_classification.data import (
    DataError,
    load_index,
    make_dataset,
    read_views,
)
from trainers.video_classification.data import cache as cache_module
from trainers.video_classification.data.cache import FrameCache


def batches(count, data, clip, **options):
    dataset = make_dataset(load_index(data), data, clip, **options)
    return list(dataset.take(count).as_numpy_iterator())


@pytest.fixture
def cache(tmp_path):
    return FrameCache(str(tmp_path / "cache"), 40)


@pytest.fixture
def encodings(monkeypatch):
    """Paths of the videos that were decoded to be kept."""
    paths, original = [], cache_module.encode_video

    def encode(record, *args):
        paths.append(record.path)
        return original(record, *args)

    monkeypatch.setattr(cache_module, "encode_video", encode)
    return paths


def numbers(source, clips, wanted):
    return [clips.numbers(p.rgb()) for _, p in source.pictures(wanted)]


def test_frames_are_kept_and_decoded_once(cache, clips, encodings, tmp_path):
    path = clips.write(tmp_path / "a.mp4", 20)
    for _ in range(2):
        source = cache.source(path, pytest.fail)
        assert source.num_frames == 20
        assert numbers(source, clips, np.array([0, 7, 19])) == [0, 7, 19]
    assert encodings == [path]


def test_a_video_that_changes_is_decoded_again(cache, clips, encodings, tmp_path):
    path = clips.write(tmp_path / "a.mp4", 20)
    cache.source(path, pytest.fail)
    clips.write(tmp_path / "a.mp4", 31)
    assert cache.source(path, pytest.fail).num_frames == 31
    assert encodings == [path, path]
    assert len(list((tmp_path / "cache").iterdir())) == 1  # the old one is gone


def test_another_size_is_another_entry(cache, clips, tmp_path):
    path = clips.write(tmp_path / "a.mp4", 8)
    small = FrameCache(str(tmp_path / "cache"), 20).source(path, pytest.fail)
    large = cache.source(path, pytest.fail)
    sizes = [next(s.pictures(np.array([0])))[1].size for s in (small, large)]
    assert sizes == [(20, 30), (40, 60)]


def test_a_damaged_entry_is_written_again(cache, clips, encodings, tmp_path):
    path = clips.write(tmp_path / "a.mp4", 20)
    cache.source(path, pytest.fail)
    (entry,) = (tmp_path / "cache").iterdir()
    entry.write_bytes(entry.read_bytes()[:-500])
    source = cache.source(path, pytest.fail)
    assert numbers(source, clips, np.array([3, 19])) == [3, 19]
    assert encodings == [path, path]


def test_an_interrupted_entry_does_not_appear(cache, clips, tmp_path, monkeypatch):
    path = clips.write(tmp_path / "a.mp4", 20)

    def stop(self, content):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache_module.tf.io.TFRecordWriter, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            cache.source(path, pytest.fail)
    assert not list((tmp_path / "cache").iterdir())
    assert cache.source(path, pytest.fail).num_frames == 20


def test_augmentation_is_drawn_anew_from_cached_frames(
    data_config, clip_config, tmp_path, encodings
):
    data = data_config(global_batch_size=9, frame_cache=str(tmp_path / "c"))
    first, second = batches(2, data, clip_config)
    a, b = (x["clip"][np.argsort(x["video"])] for x in (first, second))
    assert all((x != y).any() for x, y in zip(a, b, strict=True))
    assert len(set(encodings)) == 9
    plain = batches(1, data_config(global_batch_size=9), clip_config)[0]
    error = np.abs(plain["clip"].astype(int) - first["clip"])
    assert error.mean() < 4  # the same windows, through JPEG


def test_a_filled_cache_gives_the_batches_that_filled_it(
    data_config, clip_config, tmp_path, encodings
):
    data = data_config(frame_cache=str(tmp_path / "c"))
    whole = batches(4, data, clip_config, seed=3)
    count = len(encodings)
    late = batches(2, data, clip_config, seed=3, start_batch=2)
    for a, b in zip(whole[2:], late, strict=True):
        np.testing.assert_array_equal(a["clip"], b["clip"])
    assert len(set(encodings)) == 9  # all, by the ninth sample
    assert len(encodings) == count


def test_test_views_come_from_the_cache(data_config, clip_config, tmp_path):
    data = data_config(is_training=False, frame_cache=str(tmp_path / "c"))
    got = batches(1, data, clip_config)[0]
    path = load_index(data).records[0].path
    expected = read_views(path, data, clip_config)
    assert np.abs(got["clip"][0].astype(int) - expected[0]).mean() < 4


def test_a_folder_that_cannot_be_is_named(data_config, clip_config, tmp_path):
    (tmp_path / "file").write_text("")
    data = data_config(frame_cache=str(tmp_path / "file" / "c"))
    with pytest.raises(DataError, match="`frame_cache` .*cannot be made"):
        batches(1, data, clip_config)


def test_another_decoder_does_not_fill_it(data_config, clip_config):
    from trainers.video_classification.data.settings import check_settings

    data = data_config(frame_cache="c", decoder="tfio")
    with pytest.raises(DataError, match="`frame_cache` is filled by .*'tfio'"):
        check_settings(data, clip_config)


def test_a_folder_within_the_data_is_refused(data_config, clip_config):
    inside = pathlib.Path(data_config().input_path) / "cache"
    with pytest.raises(DataError, match="name a folder elsewhere"):
        batches(1, data_config(frame_cache=str(inside)), clip_config)
    assert not inside.exists()
