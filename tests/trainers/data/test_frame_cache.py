import os
import pathlib
import threading
import uuid

import numpy as np
import pytest
import tensorflow as tf

from trainers.core import files
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


def pixels(frames, wanted=(0, 7, 19)):
    return np.stack([p.rgb() for _, p in frames.pictures(np.array(wanted))])


def names(folder):
    return sorted(path.name for path in pathlib.Path(folder).glob("*.tfrecord"))


@pytest.fixture
def videos(clips, tmp_path):
    """Six videos, and the pixels that the cache gives of them."""
    paths = [clips.write(tmp_path / f"{n}.mp4", 20 + n) for n in range(6)]
    cache = FrameCache(str(tmp_path / "large"), 40)
    return {path: pixels(cache.open(path, pytest.fail)) for path in paths}


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if "frame_cache" in r.getMessage()]


def test_a_long_video_has_the_pixels_of_a_short_one(videos, tmp_path):
    cache = FrameCache(str(tmp_path / "parts"), 40, part_bytes=5_000)
    for _ in range(2):
        for path, expected in videos.items():
            np.testing.assert_array_equal(
                pixels(cache.open(path, pytest.fail)), expected
            )
    assert len(names(tmp_path / "parts")) == len(videos)


def test_the_oldest_entries_are_removed_first(videos, tmp_path, caplog):
    folder = tmp_path / "cache"
    folder.mkdir()
    foreign = [f"{32 * 'g'}.tfrecord", "clips-00000-of-00001.tfrecord", "a.part"]
    for name in foreign:
        (folder / name).write_bytes(bytes(1 << 20))
        os.utime(folder / name, (0, 0))
    sizes = {
        n: (tmp_path / "large" / n).stat().st_size for n in names(tmp_path / "large")
    }
    limit = 3.5 * max(sizes.values())
    cache = FrameCache(str(folder), 40, max_gib=limit / 2**30)
    written = []
    for path, expected in videos.items():
        np.testing.assert_array_equal(pixels(cache.open(path, pytest.fail)), expected)
        new = set(names(folder)) - set(written) - set(foreign)
        written += new
        kept = set(names(folder)) & set(written)
        assert len(new) == 1 and sum(sizes[name] for name in kept) <= limit
        assert kept == set(written[-len(kept) :]) and len(kept) >= min(3, len(written))
    assert all((folder / name).stat().st_size == 1 << 20 for name in foreign)
    again = FrameCache(str(folder), 40, max_gib=limit / 2**30)  # counts what is there
    again.open(next(iter(videos)), pytest.fail)
    assert sum(sizes[name] for name in set(names(folder)) & set(written)) <= limit
    assert not warnings(caplog)


def test_a_video_beyond_the_limit_is_decoded_each_time(videos, tmp_path, caplog):
    cache = FrameCache(str(tmp_path / "cache"), 40, max_gib=1000 / 2**30)
    path, expected = next(iter(videos.items()))
    for _ in range(2):
        np.testing.assert_array_equal(pixels(cache.open(path, pytest.fail)), expected)
    (message,) = warnings(caplog)
    assert f"{path} will be decoded each time" in message
    assert "more than `frame_cache_gib`" in message
    assert not names(tmp_path / "cache")


def test_a_tenth_of_the_disk_stays_free(videos, small_disk, tmp_path, caplog):
    sizes = [path.stat().st_size for path in (tmp_path / "large").iterdir()]
    disk = small_disk(4 * max(sizes))
    cache = FrameCache(str(disk), 40)
    for _ in range(2):
        for path, expected in videos.items():
            np.testing.assert_array_equal(
                pixels(cache.open(path, pytest.fail)), expected
            )
            status = os.statvfs(disk)
            assert status.f_bavail >= 0.1 * status.f_blocks
    assert 1 <= len(names(disk)) < len(videos)
    assert not warnings(caplog)


def test_a_disk_that_is_too_small_for_a_video(videos, small_disk, caplog):
    path, expected = next(iter(videos.items()))
    disk = small_disk(8 << 10)  # frames are stored there before they are an entry
    cache = FrameCache(str(disk), 40, max_gib=1, part_bytes=2_000)
    np.testing.assert_array_equal(pixels(cache.open(path, pytest.fail)), expected)
    assert "No space left on device" in warnings(caplog)[0]
    assert not list(disk.iterdir())


@pytest.mark.parametrize(
    ("max_gib", "free", "reason"),
    [(0, 90 << 10, "less than 10% of the disk"), (1, 4 << 10, "No space left on")],
)
def test_a_full_disk_does_not_end_a_training(
    small_disk, data_config, clip_config, tmp_path, caplog, max_gib, free, reason
):
    disk = small_disk(1 << 20)
    data = data_config(frame_cache=str(tmp_path / "c"), frame_cache_gib=max_gib)
    expected = batches(4, data, clip_config, seed=3)
    (disk / "other").write_bytes(bytes((1 << 20) - free))
    data.frame_cache = str(disk)
    for a, b in zip(batches(4, data, clip_config, seed=3), expected, strict=True):
        np.testing.assert_array_equal(a["clip"], b["clip"])
    (message,) = warnings(caplog)
    assert "the run goes on" in message and "run the same command" not in message
    assert str(disk) in message
    assert reason in message
    assert not list(disk.glob(".*"))


def test_a_read_only_cache_is_read(
    small_disk, make_read_only, videos, tmp_path, caplog
):
    disk = small_disk(1 << 20)
    kept, *others = videos
    FrameCache(str(disk), 40).open(kept, pytest.fail)
    make_read_only(disk)
    cache = FrameCache(str(disk), 40)
    for path in (kept, *others):
        np.testing.assert_array_equal(
            pixels(cache.open(path, pytest.fail)), videos[path]
        )
        assert len(warnings(caplog)) == (path != kept)
    assert "Read-only file system" in warnings(caplog)[0]


def test_a_folder_that_a_read_only_disk_lacks_does_not_end_a_training(
    small_disk, make_read_only, data_config, clip_config, tmp_path, caplog
):
    disk = small_disk(1 << 20)
    make_read_only(disk)
    data = data_config(frame_cache=str(tmp_path / "c"))
    expected = batches(2, data, clip_config, seed=3)
    data.frame_cache = str(disk / "new")
    for a, b in zip(batches(2, data, clip_config, seed=3), expected, strict=True):
        np.testing.assert_array_equal(a["clip"], b["clip"])
    (message,) = warnings(caplog)
    assert "Read-only file system" in message and "the run goes on" in message


def test_an_entry_that_is_removed_while_it_is_read_stays_readable(videos, tmp_path):
    cache = FrameCache(str(tmp_path / "cache"), 40, part_bytes=5_000)
    path, expected = next(iter(videos.items()))
    frames = cache.open(path, pytest.fail)
    (entry,) = (tmp_path / "cache").iterdir()
    entry.unlink()
    np.testing.assert_array_equal(pixels(frames), expected)
    assert not entry.exists()
    cache.open(path, pytest.fail)
    assert entry.exists()


def test_a_damaged_part_is_decoded_and_written_again(videos, tmp_path):
    cache = FrameCache(str(tmp_path / "cache"), 40, part_bytes=5_000)
    path, expected = next(iter(videos.items()))
    cache.open(path, pytest.fail)
    (entry,) = (tmp_path / "cache").iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-500] + bytes(500))
    np.testing.assert_array_equal(pixels(cache.open(path, pytest.fail)), expected)
    np.testing.assert_array_equal(pixels(cache.open(path, pytest.fail)), expected)
    assert entry.read_bytes() == whole


def test_several_readers_share_a_small_cache(videos, tmp_path):
    limit = 2.5 * max(p.stat().st_size for p in (tmp_path / "large").iterdir())
    wrong = []

    def read(seed):
        cache = FrameCache(str(tmp_path / "cache"), 40, max_gib=limit / 2**30)
        paths = np.random.default_rng(seed).permutation(list(videos) * 2)
        for path in map(str, paths):
            if (pixels(cache.open(path, wrong.append)) != videos[path]).any():
                wrong.append(path)

    threads = [threading.Thread(target=read, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert 1 <= len(names(tmp_path / "cache")) <= 2 + len(threads)


@pytest.mark.parametrize("max_gib", [0.0, 1e-4])
def test_a_remote_cache(videos, max_gib):
    folder = f"ram://{uuid.uuid4().hex}/cache"
    cache = FrameCache(folder, 40, max_gib)
    for _ in range(2):
        for path, expected in videos.items():
            np.testing.assert_array_equal(
                pixels(cache.open(path, pytest.fail)), expected
            )
    sizes = [files.state(files.join(folder, name))[1] for name in files.listdir(folder)]
    assert len(sizes) == len(videos) if max_gib == 0 else len(sizes) < len(videos)
    assert max_gib == 0 or sum(sizes) <= max_gib * 2**30
    assert not pathlib.Path("ram:").exists()


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_limits_that_cannot_be_are_refused(data_config, value):
    with pytest.raises(UserError, match="`frame_cache_gib` must be above 0"):
        data_config(frame_cache_gib=value).check()
