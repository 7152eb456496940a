"""Folders of extracted frames are videos, in every way a video is used."""

import os
import shutil
import time

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.data.record_files import SETTINGS, forged
from trainers.video_classification import check_data
from trainers.video_classification.configs import VideoClassificationConfig
from trainers.video_classification.data import (
    DataError,
    FailureLog,
    VideoError,
    load_index,
    make_dataset,
    read_views,
    reading,
)
from trainers.video_classification.data.configs import MediaLimits
from trainers.video_classification.data.decoding.frame_folder import FolderFrames
from trainers.video_classification.data.inspection import inspect_video
from trainers.video_classification.data.paths import FrameFolder
from trainers.video_classification.data.tfrecords.shards import write_shards
from trainers.video_classification.data.views import TestViews
from trainers.video_classification.prediction_inputs import find_videos
from trainers.video_classification.task import VideoClassificationTask

# Of `video_folder`: the number of frames of each video.
FOLDERS = {
    (name, f"v{i}"): 20 + 4 * (3 * number + i)
    for number, name in enumerate(("dive", "jump", "run"))
    for i in range(3)
}
LAYOUTS = ("img_{:05}.jpg", "frame{:06}.jpg", "{:05}.JPEG", "v_a_g01-{}.png")


@pytest.fixture
def write_frames(clips):
    """Writes numbered frames as images; frame n has the number `numbers[n]`."""

    def write(folder, numbers, layout="img_{:05}.jpg", height=48, width=72):
        folder.mkdir(parents=True, exist_ok=True)
        frames = clips.frames(len(numbers), height, width)
        for number, pixels in zip(numbers, frames, strict=True):
            cv2.imwrite(str(folder / layout.format(number)), pixels)
        return f"{folder}/"

    return write


def all_numbers(clips, path, **limits):
    """(number of each frame that can be read, what it shows)."""
    video = FolderFrames(path, MediaLimits(**limits))
    found = dict(video.pictures(np.arange(video.num_frames)))
    return {number: int(clips.numbers(found[number].rgb())) for number in found}


# One folder


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("first", [0, 1, 95])
def test_frames_are_in_the_order_of_their_numbers(
    tmp_path, clips, write_frames, layout, first
):
    path = write_frames(tmp_path / "v", range(first, first + 12), layout)
    assert all_numbers(clips, path) == {n: n for n in range(12)}


def test_every_fifth_frame_of_a_video_is_a_video(tmp_path, clips, write_frames):
    path = write_frames(tmp_path / "v", range(0, 60, 5))
    assert all_numbers(clips, path) == {n: n for n in range(12)}
    os.remove(tmp_path / "v" / "img_00010.jpg")
    assert all_numbers(clips, path) == {n: n for n in range(12) if n != 2}


def test_a_number_without_an_image_is_a_lost_frame(
    tmp_path, clips, write_frames, data_config, clip_config
):
    path = write_frames(tmp_path / "v", range(1, 9))
    os.remove(tmp_path / "v" / "img_00004.jpg")
    assert set(all_numbers(clips, path)) == {0, 1, 2, 4, 5, 6, 7}
    log = FailureLog(0)
    plan = TestViews(data_config(is_training=False), clip_config)
    plan.windows = squeezed
    plan.frames = lambda *args: np.array([[1, 2, 3, 4]])
    views = reading.cut_views(path, "pyav", plan, log.warn)
    assert clips.numbers(views.pixels).tolist() == [[1, 2, 2, 4]]
    assert list(log.damaged) == [path] and "7 of 8 frames" in log.damaged[path]


def squeezed(height, width):
    from trainers.video_classification.data.views import Window

    return [Window(36, 36, 0, 0, 36)]


def test_other_files_are_left_alone(tmp_path, clips, write_frames):
    path = write_frames(tmp_path / "v", range(1, 7))
    for name in ("Thumbs.db", "notes1.txt", "._img_00001.jpg", "cover.jpg"):
        (tmp_path / "v" / name).write_text("no frame")
    for axis in "xy":  # of dense_flow, in the same folder
        write_frames(tmp_path / "v", range(1, 6), f"flow_{axis}_{{:05}}.jpg")
    assert all_numbers(clips, path) == {n: n for n in range(6)}


@pytest.mark.parametrize(
    "names, message",
    [
        ([], r"has no frames \(images with a number: img_00001.jpg\)"),
        (["cover.jpg", "a1.txt"], "has no frames"),
        (["a_1.jpg", "b_1.jpg"], "images of 2 names, expected one video: a_1.jpg, b_1"),
        (["a_1.jpg", "a_001.png"], "two images of frame 1: a_001.png and a_1.jpg"),
        (
            ["IMG_20230101.jpg", "IMG_20230507.jpg", "IMG_20231231.jpg"],
            "3 of .* frames",
        ),
        (["1.jpg", "99999999999999999999999.jpg", "3.jpg"], "has 3 of"),
    ],
)
def test_folders_that_are_no_video_are_refused_by_name(tmp_path, names, message):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(VideoError, match=message) as raised:
        FolderFrames(f"{tmp_path}/")
    assert raised.value.path == f"{tmp_path}/"


def test_folders_that_are_gone_are_named(tmp_path):
    with pytest.raises(VideoError, match="no such folder"):
        FolderFrames(f"{tmp_path}/none/")


def test_only_the_frames_of_a_clip_are_read(
    tmp_path, clips, write_frames, data_config, clip_config
):
    path = write_frames(tmp_path / "v", range(1, 41))
    plan = TestViews(data_config(is_training=False), clip_config)
    wanted = plan.frames(40)[0].tolist()
    for number in set(range(40)) - set(wanted):
        (tmp_path / "v" / f"img_{number + 1:05}.jpg").write_text("rubbish")
    plan.windows = squeezed
    views = reading.cut_views(path, "pyav", plan, lambda *args: pytest.fail(str(args)))
    assert clips.numbers(views.pixels).tolist() == [wanted]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_damaged_images_are_lost_frames(tmp_path, clips, write_frames, suffix):
    path = write_frames(tmp_path / "v", range(12), f"{{}}.{suffix}")
    image = tmp_path / "v" / f"1.{suffix}"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) * 2 // 3])
    for number, content in ((3, b""), (5, b"text"), (7, whole[:20])):
        (tmp_path / "v" / f"{number}.{suffix}").write_bytes(content)
    assert set(all_numbers(clips, path)) == set(range(12)) - {1, 3, 5, 7}


def test_images_may_be_grey_deep_transparent_and_of_many_sizes(
    tmp_path, write_frames, data_config, clip_config
):
    draw = np.random.default_rng(0).integers
    shapes = [(48, 72), (48, 72, 4), (60, 40, 3), (100, 30, 3)]
    (tmp_path / "v").mkdir()
    for number, shape in enumerate(shapes):
        kind = np.uint16 if number == 0 else np.uint8
        image = draw(0, np.iinfo(kind).max, shape, kind)
        cv2.imwrite(str(tmp_path / "v" / f"{number}.png"), image)
    for settings in ({}, {"test_protocol": "paper", "num_test_clips": 1}):
        data = data_config(is_training=False, **settings)
        views = read_views(f"{tmp_path}/v/", data, clip_config)
        assert views.dtype == np.uint8 and views.shape[:2] == (1, 4)


# Limits


def test_limits_hold_for_images(tmp_path, write_frames, data_config, clip_config):
    path = write_frames(tmp_path / "v", range(1, 9))
    for limits, message in (
        (dict(pixels=72 * 48 - 1), "img_0000..jpg has 72 x 48 pixels .limits.pixels"),
        (dict(frames=7), "has 8 frames .limits.frames=7"),
        (dict(bytes=100), "img_0000..jpg has .* bytes .limits.bytes=100"),
    ):
        data = data_config(limits=MediaLimits(**limits))
        with pytest.raises(VideoError, match=message):
            read_views(path, data, clip_config)


def test_an_image_that_claims_to_be_huge_is_not_decoded(tmp_path, write_frames):
    path = write_frames(tmp_path / "v", range(8))
    (tmp_path / "v" / "img_00000.jpg").write_bytes(
        forged((tmp_path / "v" / "img_00001.jpg").read_bytes(), 60000, 60000)
    )
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0\0\xf0\0" * 2
    (tmp_path / "v" / "img_00002.jpg").write_bytes(png)
    for number in (0, 2):
        with pytest.raises(VideoError, match="limits.pixels"):
            list(FolderFrames(path).pictures(np.array([number])))


def test_a_disk_that_does_not_answer_is_given_up(
    tmp_path, write_frames, data_config, clip_config, stall
):
    path = write_frames(tmp_path / "v", range(1, 9))
    stall(str(tmp_path / "v" / "img_00001.jpg"))
    data = data_config(limits=MediaLimits(seconds=0.3))
    start = time.monotonic()
    with pytest.raises(VideoError, match="not read within 0.3 s"):
        read_views(path, data, clip_config)
    assert time.monotonic() - start < 10


def test_what_is_no_file_is_refused(tmp_path, write_frames):
    path = write_frames(tmp_path / "v", range(8))
    os.remove(tmp_path / "v" / "img_00003.jpg")
    os.mkfifo(tmp_path / "v" / "img_00003.jpg")
    with pytest.raises(VideoError, match="img_00003.jpg is not a regular file"):
        list(FolderFrames(path).pictures(np.arange(8)))


# Data sets


@pytest.fixture
def frame_set(tmp_path, video_folder, clips, write_frames):
    """The nine videos of `video_folder` as folders of frames; a class each layout."""
    root = tmp_path / "frames"
    for name, layout in zip(("dive", "jump", "run"), LAYOUTS, strict=False):
        for video in sorted((video_folder / name).iterdir()):
            count = FOLDERS[name, video.stem]
            write_frames(root / name / video.stem, range(1, count + 1), layout)
    return root


def test_a_folder_of_class_folders_is_a_data_set(frame_set, data_config, clip_config):
    (frame_set / "dive" / "empty").mkdir()
    (frame_set / "run" / "v0.mp4").touch()  # the video that v0 was extracted from
    data = data_config(input_path=str(frame_set))
    index = load_index(data)
    assert index.class_names == ("dive", "jump", "run")
    expected = [f"{c}/v{i}" for c in ("dive", "jump", "run") for i in range(3)]
    expected[6] = "run/v0.mp4"
    assert [video.name for video in index.videos] == expected
    assert index.videos[0].path == f"{frame_set}/dive/v0/"
    assert index.unused == {
        str(frame_set / "dive" / "empty"): "a folder without frames",
        str(frame_set / "run" / "v0"): "beside v0.mp4, which is used",
    }


def test_training_and_tests_are_those_of_the_videos(
    frame_set, video_folder, data_config, clip_config
):
    def batches(path, count, **settings):
        data = data_config(input_path=str(path), **settings)
        dataset = make_dataset(load_index(data), data, clip_config, seed=3)
        return list(dataset.take(count).as_numpy_iterator())

    tests = dict(is_training=False, num_test_clips=2, num_test_crops=3)
    for settings, count in ((dict(), 5), (tests, -1)):
        of_frames = batches(frame_set, count, **settings)
        of_videos = batches(video_folder, count, **settings)
        for a, b in zip(of_frames, of_videos, strict=True):
            for key in ("label", "video", "view", "weight"):
                np.testing.assert_array_equal(a[key], b[key])
            # The same frames, crops and flips: both encoders lose a little.
            difference = np.abs(a["clip"].astype(int) - b["clip"])
            assert difference.mean() < 4 and np.median(difference) <= 2


def test_broken_folders_are_replaced_and_named(frame_set, data_config, clip_config):
    shutil.rmtree(frame_set / "dive" / "v0")
    (frame_set / "dive" / "v0").mkdir()
    for name in ("a1.jpg", "b1.jpg"):
        (frame_set / "dive" / "v0" / name).touch()
    data = data_config(input_path=str(frame_set), max_broken_fraction=0.2)
    log = FailureLog(0.2)
    dataset = make_dataset(load_index(data), data, clip_config, failures=log)
    seen = np.concatenate([b["video"] for b in dataset.take(6).as_numpy_iterator()])
    assert set(seen.tolist()) == set(range(1, 9))
    path = f"{frame_set}/dive/v0/"
    assert list(log.failures) == [path] and "2 names" in log.failures[path]


def test_shards_of_frames_have_the_rate_that_the_config_states(
    frame_set, data_config, clips, tmp_path
):
    os.remove(frame_set / "dive" / "v1" / "img_00003.jpg")
    index = load_index(data_config(input_path=str(frame_set)))
    summary = write_shards(
        index, str(tmp_path / "records"), **SETTINGS, frame_rate=12.5
    )
    assert summary.num_written == 9 and not summary.left_out
    assert list(summary.damaged) == [f"{frame_set}/dive/v1/"]
    records = load_index(data_config(input_path=str(tmp_path / "records")))
    assert [v.name for v in records.videos] == [v.name for v in index.videos[::2]] + [
        v.name for v in index.videos[1::2]
    ]
    facts = {v.name: inspect_video(v.path, "pyav") for v in records.videos}
    assert {f.frame_rate for f in facts.values()} == {12.5}
    assert {n: f.num_frames for n, f in facts.items()} == {
        f"{name}/{video}": count - ((name, video) == ("dive", "v1"))
        for (name, video), count in FOLDERS.items()
    }
    with pytest.raises(DataError, match="other videos or with other settings"):
        write_shards(index, str(tmp_path / "records"), **SETTINGS, frame_rate=25.0)


def test_clips_by_time_need_the_rate_of_a_folder(
    tmp_path, clips, write_frames, data_config, clip_config
):
    path = write_frames(tmp_path / "v", range(40))
    clip_config.set_fps(5)
    with pytest.raises(
        VideoError, match="frame rate is unknown.*train_data.frame_rate"
    ):
        read_views(path, data_config(), clip_config)
    (tmp_path / "list.txt").write_text(f"{path} 0")
    index = load_index(data_config(input_path=str(tmp_path / "list.txt")))
    with pytest.raises(DataError, match="fps` samples by time.*v/: set `frame_rate`"):
        make_dataset(index, data_config(), clip_config)
    make_dataset(index, data_config(frame_rate=20.0), clip_config)
    plan = TestViews(data_config(is_training=False), clip_config)
    plan.windows = squeezed
    views = reading.cut_views(path, "pyav", plan, frame_rate=20.0)
    assert np.diff(clips.numbers(views.pixels)).tolist() == [[4, 4, 4]]
    assert views.frame_rate == 20


def test_frames_are_not_cached_but_videos_beside_them_are(
    frame_set, data_config, clip_config, clips, tmp_path
):
    data = data_config(input_path=str(frame_set), frame_cache=str(tmp_path / "cache"))
    with pytest.raises(DataError, match="already consists of frames: leave it empty"):
        make_dataset(load_index(data), data, clip_config)
    clips.write(frame_set / "run" / "x.mp4", 30)
    data.global_batch_size = 10
    next(iter(make_dataset(load_index(data), data, clip_config)))
    assert len(list((tmp_path / "cache").glob("*.tfrecord"))) == 1


def test_check_data_reports_folders_of_frames(frame_set, write_frames):
    os.remove(frame_set / "dive" / "v1" / "img_00003.jpg")
    shutil.copytree(frame_set / "dive" / "v2", frame_set / "run" / "copy")
    write_frames(frame_set / "jump" / "short", range(9))
    (frame_set / "jump" / "bad").mkdir()
    (frame_set / "jump" / "bad" / "1.jpg").write_text("no image")
    config = VideoClassificationConfig()
    config.clip.num_frames = config.clip.temporal_stride = 4
    config.train_data.input_path = str(frame_set)
    config.train_data.frame_rate = 25.0
    (report,) = check_data.check(VideoClassificationTask(config)).values()
    found = {key: set(v) for key, v in report.problems.items() if v}
    assert found == {
        "damaged": {f"{frame_set}/dive/v1/"},
        "short": {f"{frame_set}/jump/short/"},
        "broken": {f"{frame_set}/jump/bad/"},
        "duplicate": {f"{frame_set}/dive/v2/", f"{frame_set}/run/copy/"},
    }
    assert "has 23 of 24 frames" in report.problems["damaged"][f"{frame_set}/dive/v1/"]
    assert report.frame_rate == 25


def test_prediction_finds_folders_of_frames(frame_set, clips, tmp_path):
    clips.write(frame_set / "run" / "x.mp4", 5)
    (frame_set / "run" / "cover1.jpg").touch()  # beside a video: no frame
    found = [video.path for video in find_videos([frame_set]) if not video.problem]
    expected = [f"{frame_set}/{c}/v{i}/" for c, i in ((c, i[1:]) for c, i in FOLDERS)]
    assert found == sorted([*expected, str(frame_set / "run" / "x.mp4")])
    for given in (frame_set / "dive/v0", f"{frame_set}/dive/v0/"):
        (video,) = find_videos([given])
        assert (video.path, video.problem) == (f"{frame_set}/dive/v0/", "")
    (tmp_path / "none").mkdir()
    (none,) = find_videos([tmp_path / "none"])
    assert "or folders of frames" in none.problem


def test_frames_are_read_from_remote_file_systems(
    tmp_path, clips, write_frames, data_config
):
    write_frames(tmp_path / "v", range(1, 7))
    tf.io.gfile.makedirs("ram://frames/run/v")
    for path in (tmp_path / "v").iterdir():
        tf.io.gfile.copy(str(path), f"ram://frames/run/v/{path.name}", overwrite=True)
    assert all_numbers(clips, "ram://frames/run/v/") == {n: n for n in range(6)}
    index = load_index(data_config(input_path="ram://frames"))
    assert [video.path for video in index.videos] == ["ram://frames/run/v/"]


def test_frames_without_a_folder_for_their_video_are_explained(write_frames, tmp_path):
    from trainers.video_classification.data.configs import DataConfig

    write_frames(tmp_path / "run", range(5))
    with pytest.raises(
        DataError, match="class 'run' has no videos.*folder of their own"
    ):
        load_index(DataConfig(input_path=str(tmp_path)))
    with pytest.raises(DataError, match="no class folders"):
        load_index(DataConfig(input_path=str(tmp_path / "run")))


# Lists


@pytest.fixture
def listed(tmp_path, data_config):
    """Function: the index of a list in the folder of the frames."""

    def load(text, **settings):
        path = tmp_path / "frames" / "list.txt"
        path.write_text(text)
        return load_index(data_config(input_path=str(path), **settings))

    return load


def test_lists_name_folders_and_videos(frame_set, clips, listed):
    clips.write(frame_set / "a.mp4", 9)
    index = listed("a.mp4 0\ndive/v0 1\njump/v1/ 0\n")
    assert index.format == "list"
    names = [os.path.relpath(v.path, frame_set) for v in index.videos]
    assert names == ["a.mp4", "dive/v0", "jump/v1"]
    assert [v.path[-1] for v in index.videos] == ["4", "/", "/"]
    several = listed("dive/v0 1 2\n", index_format="mmaction2", is_multilabel=True)
    assert several.videos[0].labels == (1, 2)
    assert several.videos[0].path == f"{frame_set}/dive/v0/"


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        (
            "train.csv",
            "label,youtube_id,time_start,time_end,split\n"
            "dive,v0,3,13,train\njump,v1,0,10,train\ndive,none,0,10,train\n",
            ["dive/v0_000003_000013", "jump/v1"],
        ),
        ("trainlist01.txt", "dive/v0.avi 1\njump/v1.avi 2\nrun/v9.avi 3\n", None),
        (
            "charades.csv",
            "id,actions\ndive/v0,c001 0 1\njump/v1,\nnone,\n",
            None,
        ),
    ],
    ids=["kinetics", "ucf101", "charades"],
)
def test_frames_replace_videos_of_every_index(
    frame_set, clips, data_config, name, text, found
):
    if found:
        (frame_set / "dive/v0").rename(frame_set / found[0])
    (frame_set / "classInd.txt").write_text("1 dive\n2 jump\n3 run\n")
    (frame_set / name).write_text(text)
    several = {"is_multilabel": True} if "charades" in name else {}
    index = load_index(data_config(input_path=str(frame_set / name), **several))
    assert [os.path.relpath(v.path, frame_set) for v in index.videos] == (
        found or ["dive/v0", "jump/v1"]
    )
    assert all(v.path.endswith("/") for v in index.videos)
    assert len(index.missing) == 1
    numbers = all_numbers(clips, index.videos[0].path)
    assert numbers == {n: n for n in range(20)}
    clips.write(frame_set / "jump/v1.mp4", 9)  # a file is preferred
    if name == "charades.csv":
        index = load_index(data_config(input_path=str(frame_set / name), **several))
        assert index.videos[1].path == f"{frame_set}/jump/v1.mp4"


def test_mmaction2_lists_state_the_number_of_frames(frame_set, clips, listed):
    index = listed("dive/v0 20 1\nnone/v 7 0\ndive/v1 24 0\n")
    assert index.format == "rawframes" and index.missing == (f"{frame_set}/none/v/#7",)
    assert [v.labels for v in index.videos] == [(1,), (0,)]
    assert index.videos[0].path == f"{frame_set}/dive/v0/#20"
    assert all_numbers(clips, index.videos[0].path) == {n: n for n in range(20)}


def test_mmaction2_lists_with_the_start_of_a_video(frame_set, clips, listed):
    # Frame 1 + 12 is the first: start_index + offset.
    index = listed("dive/v0 12 5 1\ndive/v0 0 3 0\n")
    assert index.format == "rawframes_offset"
    first, second = index.videos
    assert (
        first.path == f"{frame_set}/dive/v0/#12+5" and first.name == "dive/v0, from 12"
    )
    assert all_numbers(clips, first.path) == {n: n + 12 for n in range(5)}
    assert all_numbers(clips, second.path) == {n: n for n in range(3)}
    assert FolderFrames(first.path).problem == ""


def test_mmaction2_lists_of_several_labels(frame_set, listed):
    text = "dive/v0 20 1 3\njump/v0 32 2\n"
    several = listed(text, index_format="rawframes", is_multilabel=True)
    assert [v.labels for v in several.videos] == [(1, 3), (2,)]
    text = "dive/v0 3 10 1 3\njump/v0 0 32 2\n"
    offset = listed(text, index_format="rawframes_offset", is_multilabel=True)
    assert [v.labels for v in offset.videos] == [(1, 3), (2,)]
    assert FrameFolder.parse(offset.videos[0].path)[1:] == (3, 10)
    with pytest.raises(DataError, match="list.txt:1.*several numbers.*`mmaction2` if"):
        listed(text, is_multilabel=True)


def test_frames_that_are_numbered_from_zero_are_those_of_start_index_0(
    tmp_path, clips, write_frames
):
    write_frames(tmp_path / "v", range(10))
    assert all_numbers(clips, f"{tmp_path}/v/#3+4") == {0: 3, 1: 4, 2: 5, 3: 6}
    os.remove(tmp_path / "v" / "img_00000.jpg")
    os.remove(
        tmp_path / "v" / "img_00001.jpg"
    )  # frame 1 is lost, not frame 2 the first
    assert all_numbers(clips, f"{tmp_path}/v/#9") == {n: n + 1 for n in range(1, 9)}


def test_the_stated_number_is_compared_with_the_folder(
    frame_set, listed, data_config, clip_config
):
    text = "dive/v0 22 1\ndive/v1 20 0\ndive/v2 28 0\njump/v0 99 0\n"
    index = listed(text)
    paths = [video.path for video in index.videos]
    assert FolderFrames(paths[0]).problem == (
        "has 20 of 22 frames; its images are numbered 1 to 20"
    )
    assert FolderFrames(paths[1]).problem == "has 24 frames, its list states 20"
    assert FolderFrames(paths[2]).problem == ""
    data = data_config(max_broken_fraction=0.5)
    log = FailureLog(0.5)
    next(iter(make_dataset(index, data, clip_config, failures=log).batch(4)))
    assert set(log.damaged) == set(paths[:2]) and "states 20" in log.damaged[paths[1]]
    assert "has 32 of 99 frames" in log.failures[paths[3]]
    config = VideoClassificationConfig()
    config.train_data.input_path = index.path
    config.train_data.frame_rate = 25.0
    (report,) = check_data.check(VideoClassificationTask(config)).values()
    assert set(report.problems["damaged"]) == set(paths[:2])
    assert set(report.problems["broken"]) == {paths[3]}


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "dive/v0 20 1\ndive/v1 0\n",
            "list.txt:1: 'dive/v0 20 1' and .*:2: 'dive/v1 0'",
        ),
        ("a.mp4 0\ndive/v1 24 0\n", "different formats. Expected one of `path label`"),
        ("dive/v0 20 1\ndive/v1 0 24 0\n", "different formats"),
        ("dive/v0 0 1\n", "list.txt:1: expected `folder frames label`.*at least one"),
        ("dive/v0 3 4 5 6 7\n", "list.txt:1: has several numbers after a folder"),
    ],
)
def test_lists_of_mixed_or_unknown_formats_are_refused(
    frame_set, listed, text, message
):
    with pytest.raises(DataError, match=message):
        listed(text)


@pytest.mark.parametrize(
    "index_format, line",
    [
        ("rawframes", "dive/v0 12 5 1"),
        ("rawframes", "dive/v0 5"),
        ("rawframes", "dive/v0.mp4 5 1"),
        ("rawframes", "dive/v0 five 1"),
        ("rawframes_offset", "dive/v0 5 1"),
        ("rawframes_offset", "dive/v0 1 2 3 4"),
    ],
)
def test_lines_of_another_format_are_named(frame_set, listed, index_format, line):
    good = "dive/v1 24 1" if index_format == "rawframes" else "dive/v1 3 4 1"
    with pytest.raises(DataError, match="list.txt:2: expected `folder .*rawframes"):
        listed(f"{good}\n{line}\n", index_format=index_format)
