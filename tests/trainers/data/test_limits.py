"""A file above a limit is broken by name, before memory or time is spent on it."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from trainers.core.errors import UserError
from trainers.core.failures import FailureLog
from trainers.video_classification.data import (
    VideoError,
    load_index,
    make_dataset,
    read_views,
    write_video,
)
from trainers.video_classification.data.configs import MediaLimits
from trainers.video_classification.data.inspection import inspect_video
from trainers.video_classification.data.tfrecords.frame_cache import FrameCache
from trainers.video_classification.data.tfrecords.shards import write_shards


@pytest.fixture
def reason(data_config, clip_config):
    """Function: the reason why a file is broken under some limits."""

    def read(path, **limits):
        data = data_config(limits=MediaLimits(**limits))
        read_views(path, data_config(), clip_config)
        with pytest.raises(VideoError) as raised:
            read_views(path, data, clip_config)
        assert raised.value.path == path
        return raised.value.reason

    return read


@pytest.mark.parametrize(
    "suffix, codec", [("mp4", "libx264"), ("ts", "libx264"), ("webm", "libvpx")]
)
def test_large_frames_are_refused(tmp_path, clips, reason, suffix, codec):
    path = clips.write(tmp_path / f"a.{suffix}", 8, codec=codec)
    assert re.fullmatch(
        r"has frames of 72 x 48 pixels \(limits.pixels=3455\). To use the video, raise "
        "task.train_data.limits.pixels, or that of validation_data.",
        reason(path, pixels=72 * 48 - 1),
    )


@pytest.mark.parametrize(
    "suffix, settings",
    [("gif", dict(codec="gif", pix_fmt="rgb8")), ("avi", dict(codec="mpeg4"))],
)
def test_large_frames_whose_size_libav_hides_are_refused(
    tmp_path, clips, reason, suffix, settings
):
    path = clips.write(tmp_path / f"a.{suffix}", 8, **settings)
    assert "limits.pixels=3455" in reason(path, pixels=72 * 48 - 1)


def test_long_files_are_refused(tmp_path, clips, reason):
    path = clips.write(tmp_path / "a.mp4", 40)
    text = reason(path, frames=39)
    assert text.startswith("has more than 39 frames (limits.frames=39). To use")


@pytest.mark.parametrize("remote", [False, True])
def test_large_files_are_refused(tmp_path, clips, reason, remote):
    path = clips.write(tmp_path / "a.mp4", 8)
    size = pathlib.Path(path).stat().st_size
    if remote:
        tf.io.gfile.copy(path, "ram://limits/a.mp4", overwrite=True)
        path = "ram://limits/a.mp4"
    text = reason(path, bytes=size - 1)
    assert text.startswith(f"has {size} bytes (limits.bytes={size - 1}). To use")


@pytest.mark.parametrize("is_training", [True, False])
def test_data_sets_have_limits(data_config, clip_config, is_training):
    # The nine videos have 20, 24, ..., 52 frames.
    data = data_config(
        is_training=is_training, limits=MediaLimits(frames=50), global_batch_size=9
    )
    failures, index = FailureLog(0.5), load_index(data)
    batch = next(iter(make_dataset(index, data, clip_config, failures=failures)))
    assert list(failures.failures) == [index.videos[8].path]
    used = batch["video"].numpy()[batch["weight"].numpy() > 0]
    assert set(used) == set(range(8))


def test_very_long_frames_are_read(tmp_path, data_config, clip_config):
    path = str(tmp_path / "long.avi")
    frames = np.full((8, 2, 16000, 3), 90, np.uint8)
    write_video(path, frames, codec="mjpeg", pix_fmt="yuvj444p")
    views = read_views(path, data_config(num_test_crops=3), clip_config)
    assert np.abs(views.astype(int) - 90).max() <= 3
    whole = data_config(test_protocol="paper", limits=MediaLimits(pixels=2**16))
    with pytest.raises(VideoError, match=r"views of 256000 x 32 pixels \(limits.pix"):
        read_views(path, whole, clip_config)


def test_whole_videos_have_limits(tmp_path, data_config, clip_config):
    # The nine videos have 20, 24, ..., 52 frames.
    data = data_config(limits=MediaLimits(frames=50))
    index = load_index(data)
    longest = index.videos[8].path
    reason = "has more than 50 frames (limits.frames=50)"
    summary = write_shards(index, str(tmp_path), workers=1, limits=data.limits)
    assert [path for path in summary.left_out] == [longest]
    assert summary.left_out[longest].startswith(reason)
    cache = FrameCache(str(tmp_path / "cache"), 32, limits=data.limits)
    with pytest.raises(VideoError) as raised:
        cache.open(longest, print)
    assert raised.value.reason.startswith(reason)
    with pytest.raises(VideoError) as raised:
        inspect_video(longest, "pyav", data.limits)
    assert raised.value.reason.startswith(reason)


def test_a_disk_that_does_not_answer_ends_no_conversion(tmp_path, data_config, stall):
    data = data_config(limits=MediaLimits(seconds=0.3))
    index = load_index(data)
    stalled = index.videos[4].path
    stall(stalled)
    summary = write_shards(index, str(tmp_path), workers=1, limits=data.limits)
    assert list(summary.left_out) == [stalled] and summary.num_written == 8
    assert summary.left_out[stalled].startswith("not read within 0.3 s")


@pytest.mark.parametrize(
    "limits, message",
    [
        (dict(pixels=0), "`limits.pixels` must be at least 1. Received: 0"),
        (dict(frames=-1), "`limits.frames` must be at least 1. Received: -1"),
        (dict(bytes=0), "`limits.bytes` must be at least 1"),
        (dict(seconds=0.0), "`limits.seconds` must be a positive number .* 0.0"),
        (dict(seconds=float("nan")), "`limits.seconds` .* nan"),
    ],
)
def test_limits_are_checked(data_config, limits, message):
    with pytest.raises(UserError, match=message):
        data_config(limits=MediaLimits(**limits)).check()


def test_the_defaults_suit_real_videos():
    limits = MediaLimits()
    limits.check()
    assert limits.pixels > 7680 * 4320
    assert limits.frames > 10 * 3600 * 25
    assert limits.bytes > 3600 * 8e6 / 8
