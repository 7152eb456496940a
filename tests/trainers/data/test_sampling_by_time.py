"""Clips of `fps` frames a second, from videos of any frame rate."""

import pathlib
from fractions import Fraction
from math import ceil

import av
import numpy as np
import pytest

from tests.trainers.data.record_files import SETTINGS
from trainers.core.config import load_experiment, to_dict
from trainers.core.errors import UserError
from trainers.video_classification import check_data, experiments  # noqa: F401
from trainers.video_classification.configs import VideoClassificationConfig
from trainers.video_classification.data import (
    VideoError,
    load_index,
    make_dataset,
    read_views,
    reading,
)
from trainers.video_classification.data.configs import ClipConfig
from trainers.video_classification.data.tfrecords.frame_cache import FrameCache
from trainers.video_classification.data.tfrecords.shards import write_shards
from trainers.video_classification.data.views import RandomView, TestViews
from trainers.video_classification.task import VideoClassificationTask

RATES = [Fraction(r) for r in (15, 24, 25, 30, 50)] + [Fraction(30000, 1001)]
RECORDED = np.load(pathlib.Path(__file__).parents[2] / "parity" / "test_views.npz")


def clip_of(num_frames, fps):
    clip = ClipConfig(num_frames=num_frames)
    clip.set_fps(fps)
    return clip


def exact(start, num_frames, fps, rate, count):
    """The nearest frames, the earlier of two, in exact arithmetic."""
    step = rate / Fraction(fps)
    return [ceil(start + i * step - Fraction(1, 2)) % count for i in range(num_frames)]


def squeezed(height, width):  # all columns, so that the numbers stay readable
    from trainers.video_classification.data.views import Window

    return [Window(36, 36, 0, 0, 36)]


@pytest.fixture
def shown(clips):
    """Function: the numbers that the frames of a plan show, (clips, T)."""

    def read(path, plan, **options):
        plan.windows = squeezed
        return clips.numbers(reading.cut_views(path, "pyav", plan, **options).pixels)

    return read


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_clips_have_their_rate_in_videos_of_any_rate(
    tmp_path, clips, shown, data_config, rate, suffix
):
    path = clips.write(tmp_path / f"a.{suffix}", 100, fps=rate)
    data = data_config(is_training=False, num_test_clips=3)
    for fps in (10, 12.5, 4):
        room = 100 - 6 * rate / Fraction(fps)  # mean frames behind the clip
        last = max(int(room), 0)
        starts = [round(Fraction(j * last, 2)) for j in range(3)]
        expected = [exact(start, 6, fps, rate, 100) for start in starts]
        got = shown(path, TestViews(data, clip_of(6, fps)))
        np.testing.assert_array_equal(got, expected, str(fps))


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_training_clips_start_at_any_frame_that_leaves_room(data_config, rate):
    clip, data = clip_of(8, 5), data_config()
    seen = set()
    for seed in range(400):
        plan = RandomView(data, clip, np.random.default_rng(seed))
        (frames,) = plan.frames(100, float(rate)).tolist()
        assert frames == exact(frames[0], 8, 5, rate, 100)
        seen.add(frames[0])
    assert seen == set(range(int(100 - 8 * rate / 5) + 1))


def test_a_rate_that_divides_that_of_the_video_is_a_stride(data_config):
    for settings in (dict(num_test_clips=4), dict(test_protocol="one_view")):
        data = data_config(is_training=False, **settings)
        strided = TestViews(data, ClipConfig(num_frames=8, temporal_stride=3))
        timed = TestViews(data, clip_of(8, 10))
        for length in (1, 7, 23, 24, 25, 200):
            np.testing.assert_array_equal(
                timed.frames(length, 30.0), strided.frames(length), str(length)
            )


def test_slow_videos_repeat_frames_and_short_ones_wrap_around(data_config):
    views = TestViews(data_config(is_training=False), clip_of(6, 10))
    assert views.frames(30, 5.0).tolist() == [[13, 13, 14, 14, 15, 15]]
    assert views.frames(7, 25.0).tolist() == [[0, 2, 5, 0, 3, 5]]


# Videos whose frames are not evenly spaced


@pytest.fixture
def uneven(tmp_path, clips):
    """(path, times in seconds) of a video whose rate falls from 50 to 10."""
    gaps = np.array([20] * 40 + [100] * 30 + [40] * 9)
    milliseconds = np.concatenate([[0], np.cumsum(gaps)])
    path = tmp_path / "folder" / "a" / "uneven.mkv"
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "12", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 72, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, time in zip(clips.frames(80), milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            frame.pts, frame.time_base = int(time), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return str(path), milliseconds / 1000


def nearest(times, start, num_frames, fps):
    """Frames nearest to `num_frames` times from `start` on, by looking at all."""
    wanted = [start + i / fps for i in range(num_frames)]
    return [int(np.argmin([abs(t - time) for t in times])) for time in wanted]


def test_uneven_videos_are_sampled_by_their_timestamps(uneven, shown, data_config):
    path, times = uneven
    mean = 79 / times[-1]
    clip = clip_of(8, 4)
    data = data_config(is_training=False, num_test_clips=4)
    first = np.linspace(0, int(80 - 8 * mean / 4), 4).round() / mean
    expected = [nearest(times, start, 8, 4) for start in first]
    got = shown(path, TestViews(data, clip))
    np.testing.assert_array_equal(got, expected)
    gaps = np.diff(times[got], axis=1)
    np.testing.assert_allclose(gaps, 0.25, atol=0.1)  # as far as there are frames
    assert (np.diff(got, axis=1).max(1) > 2 * np.diff(got, axis=1).min(1)).any()


def test_shards_and_the_frame_cache_keep_rates_and_timestamps(
    uneven, clips, shown, data_config, tmp_path
):
    path, _ = uneven
    folder = tmp_path / "folder"
    even = clips.write(folder / "a" / "even.mp4", 90, fps=Fraction(30000, 1001))
    index = load_index(data_config(input_path=str(folder)))
    write_shards(index, str(tmp_path / "records"), **SETTINGS)
    records = load_index(data_config(input_path=str(tmp_path / "records")))
    paths = {video.name: video.path for video in records.videos}
    data = data_config(is_training=False, num_test_clips=5)
    cache = FrameCache(str(tmp_path / "cache"), 40)
    for original in (path, even):
        plan = TestViews(data, clip_of(8, 7.3))
        expected = shown(original, plan)
        record = paths[f"a/{pathlib.Path(original).name}"]
        np.testing.assert_array_equal(shown(record, plan), expected)
        for _ in range(2):  # written, then read
            cached = shown(original, plan, cache=cache)
            np.testing.assert_array_equal(cached, expected)


def test_lost_frames_do_not_move_the_others_of_a_shard(
    clips, shown, data_config, tmp_path
):
    """Frames that cannot be decoded are not in a shard; the others keep their times."""
    from trainers.video_classification.data.tfrecords.video_frames import _times

    class Video:
        num_frames, frame_rate, times = 10, 20.0, None

    kept = [0, 1, 2, 5, 6, 9]
    assert _times(Video, 20.0, kept).tolist() == [50_000 * number for number in kept]
    assert _times(Video, 20.0, list(range(10))) is None


# Protocols, settings


@pytest.mark.parametrize(
    "key", [key for key in RECORDED.files if key.startswith("pyslowfast/rates/")]
)
def test_pyslowfast_has_these_clips_for_its_target_fps(data_config, key):
    _, _, name, rate = key.split("/")
    num_frames, sampling_rate = map(int, name.split("x"))
    data = data_config(is_training=False)
    data.set_test_protocol("pyslowfast")
    views = TestViews(data, clip_of(num_frames, 30 / sampling_rate))
    for length, frames in zip(RECORDED["lengths"], RECORDED[key], strict=True):
        got = views.frames(int(length), float(rate))
        np.testing.assert_array_equal(got, frames, str(length))


@pytest.mark.parametrize("protocol", ["mmaction2", "video_nonlocal_net"])
def test_protocols_that_count_frames_are_refused(data_config, video_folder, protocol):
    data = data_config(is_training=False)
    data.set_test_protocol(protocol)
    message = f"test_protocol `{protocol}` counts frames: set task.clip.temporal_stride"
    for use in (
        lambda: make_dataset(load_index(data), data, clip_of(4, 10)),
        lambda: read_views(str(video_folder / "run/v0.mp4"), data, clip_of(4, 10)),
    ):
        with pytest.raises(UserError, match=message):
            use()
    config = VideoClassificationConfig(clip=clip_of(4, 10), validation_data=data)
    with pytest.raises(UserError, match=message):
        config.check()


def test_exactly_one_of_stride_and_rate_acts():
    def load(*overrides):
        overrides = [f"task.clip.{override}" for override in overrides]
        return load_experiment([], overrides, "video_classification")[1].task.clip

    clip = load("fps=12")
    clip.check()
    assert (clip.temporal_stride, clip.fps) == (None, 12.0)
    assert to_dict(clip)["temporal_stride"] is None
    clip = load("fps=12", "temporal_stride=4")
    clip.check()
    assert (clip.temporal_stride, clip.fps) == (4, None)
    clip = load("temporal_stride=4", "fps=12")
    clip.check()
    assert (clip.temporal_stride, clip.fps) == (None, 12.0)
    clip = load("fps=null")
    clip.check()
    assert (clip.temporal_stride, clip.fps) == (8, None)
    with pytest.raises(UserError, match="set one, such as task.clip.temporal_stride=8"):
        load("temporal_stride=null").check()
    for fps in ("0", "-3"):
        with pytest.raises(UserError, match="`fps` must be a positive number"):
            load(f"fps={fps}").check()
    for fps in (".nan", ".inf"):
        with pytest.raises(UserError, match="`task.clip.fps` must be a finite number"):
            load(f"fps={fps}")


def test_one_file_that_sets_a_stride_and_a_rate_is_refused(tmp_path):
    path = tmp_path / "a.yaml"

    def load(stride, fps):
        clip = f"temporal_stride: {stride}, fps: {fps}"
        path.write_text(f"experiment: video_classification\ntask: {{clip: {{{clip}}}}}")
        return load_experiment([str(path)])[1].task.clip

    clip = load("null", "7.5")  # as params.yaml is saved
    assert (clip.temporal_stride, clip.fps) == (None, 7.5)
    clip = load("4", "null")
    assert (clip.temporal_stride, clip.fps) == (4, None)
    message = "a.yaml: task.clip: .*set task.clip.fps=null or task.clip.temporal_stride"
    with pytest.raises(UserError, match=message):
        load("4", "7.5")
    both = ClipConfig(temporal_stride=4, fps=7.5)
    with pytest.raises(UserError, match="set task.clip.fps=null or"):
        both.check()


def test_a_video_of_an_unknown_rate_is_broken_by_name(
    clips, data_config, tmp_path, shown
):
    path = clips.write(tmp_path / "a.mp4", 20)
    plan = TestViews(data_config(is_training=False), clip_of(4, 10))

    class Unknown:
        num_frames, frame_rate, times = 20, 0.0, None

    with pytest.raises(
        VideoError, match="a.mp4: its frame rate is unknown.*frame_rate"
    ):
        reading.plan_frames(path, Unknown, plan)
    for rate in (-1.0, float("inf")):
        with pytest.raises(UserError, match="`frame_rate` must be positive"):
            data_config(frame_rate=rate).check()


def test_check_data_knows_the_time_that_a_clip_spans(clips, tmp_path):
    (tmp_path / "a").mkdir()
    config = VideoClassificationConfig(clip=clip_of(5, 10))  # 0.4 s
    config.train_data.input_path = str(tmp_path)
    for name, count, rate in (("ok", 21, 50), ("short", 20, 50), ("slow", 10, 5)):
        clips.write(tmp_path / "a" / f"{name}.mp4", count, fps=rate)
    (report,) = check_data.check(VideoClassificationTask(config)).values()
    found = {key: videos for key, videos in report.problems.items() if videos}
    folder = tmp_path / "a"
    assert found == {
        "short": {str(folder / "short.mp4"): "20 frames, a clip spans 21"},
        "frame_rate": {str(folder / "slow.mp4"): "5 frames/s, clips have 10"},
    }
