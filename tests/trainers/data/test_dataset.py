import shutil

import numpy as np
import pytest
import tensorflow as tf

from trainers.video_classification.data import (
    FailureLog,
    TooManyBroken,
    load_index,
    make_dataset,
    read_views,
)


def batches(count, *args, **kwargs):
    return list(make_dataset(*args, **kwargs).take(count).as_numpy_iterator())


def assert_same(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        for key in b:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.fixture
def broken_folder(tmp_path, video_folder):
    """The nine videos, two of which are text."""
    folder = tmp_path / "broken"
    shutil.copytree(video_folder, folder)
    for name in ("jump/v1.mp4", "run/v0.mp4"):
        (folder / name).write_text("not a video")
    return folder


def test_training_batches_have_the_documented_content(data_config, clip_config):
    data = data_config()
    batch = batches(1, load_index(data), data, clip_config)[0]
    assert batch["clip"].shape == (4, 4, 28, 28, 3)
    assert {k: v.dtype.name for k, v in batch.items()} == {
        "clip": "uint8",
        "label": "int32",
        "video": "int32",
        "view": "int32",
        "weight": "float32",
    }
    np.testing.assert_array_equal(batch["label"], batch["video"] // 3)
    np.testing.assert_array_equal(batch["weight"], np.ones(4))


def test_static_shapes_are_known(data_config, clip_config):
    for is_training in (True, False):
        data = data_config(is_training=is_training)
        spec = make_dataset(load_index(data), data, clip_config).element_spec
        assert spec["clip"].shape == (4, 4, 28, 28, 3)
        assert all(s.shape == (4,) for k, s in spec.items() if k != "clip")


def test_the_seed_determines_the_batches(data_config, clip_config):
    data = data_config()
    index = load_index(data)
    first = batches(6, index, data, clip_config, seed=5)
    assert_same(batches(6, index, data, clip_config, seed=5), first)
    serial = data_config(num_parallel_decodes=1)
    assert_same(batches(6, index, serial, clip_config, seed=5), first)
    other = batches(6, index, data, clip_config, seed=6)
    assert any(
        (a["clip"] != b["clip"]).any() for a, b in zip(first, other, strict=True)
    )


def test_augmentation_differs_from_epoch_to_epoch(data_config, clip_config):
    data = data_config(global_batch_size=9)
    index = load_index(data)
    a, b = batches(2, index, data, clip_config)
    assert sorted(a["video"]) == sorted(b["video"]) == list(range(9))
    a, b = (x["clip"][np.argsort(x["video"])] for x in (a, b))
    assert all((x != y).any() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("start", [1, 4, 7])
def test_starting_late_gives_the_batches_of_an_uninterrupted_run(
    data_config, clip_config, start
):
    data = data_config()
    index = load_index(data)
    whole = batches(9, index, data, clip_config, seed=2)
    late = batches(9 - start, index, data, clip_config, seed=2, start_batch=start)
    assert_same(late, whole[start:])


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("pipelines", [1, 2])
def test_replicas_together_get_the_full_batch(
    data_config, clip_config, pipelines, is_training
):
    data = data_config(is_training=is_training)
    index = load_index(data)
    whole = batches(3, index, data, clip_config)
    parts = []
    for pipeline in range(pipelines):
        context = tf.distribute.InputContext(pipelines, pipeline, 2)
        got = (
            batches(-1, index, data, clip_config, input_context=context)
            if not is_training
            else batches(
                6 // pipelines, index, data, clip_config, input_context=context
            )
        )
        assert all(len(b["video"]) == 2 for b in got)
        parts.append(got)
    if pipelines == 1:
        pairs = list(zip(parts[0][::2], parts[0][1::2], strict=True))
    else:
        pairs = list(zip(*parts, strict=True))
    joined = [
        {k: np.concatenate([part[k] for part in pair]) for k in pair[0]}
        for pair in pairs
    ]
    if is_training:
        assert_same(joined, whole)
    else:  # videos go to the pipelines in turn: the same views, in another order
        seen = [
            (v, w)
            for b in joined
            for v, w, real in zip(b["video"], b["view"], b["weight"], strict=True)
            if real
        ]
        assert sorted(seen) == [(video, 0) for video in range(9)]


@pytest.mark.parametrize("pipelines", [1, 2, 4])
def test_test_batches_of_any_size_are_shared(data_config, clip_config, pipelines):
    """60 views on 8 replicas, as in the Kinetics configs: 8 rows on each."""
    data = data_config(
        is_training=False, num_test_clips=10, num_test_crops=3, global_batch_size=60
    )
    index = load_index(data)
    seen, counts = [], set()
    for pipeline in range(pipelines):
        context = tf.distribute.InputContext(pipelines, pipeline, 8)
        got = batches(-1, index, data, clip_config, input_context=context)
        assert {len(batch["video"]) for batch in got} == {8}
        counts.add(len(got))
        for batch in got:
            real = batch["weight"] > 0
            seen += zip(batch["video"][real], batch["view"][real], strict=True)
    assert sorted(seen) == [(video, view) for video in range(9) for view in range(30)]
    assert len(counts) == 1 and counts.pop() % (8 // pipelines) == 0


def test_every_view_comes_once_and_padding_has_weight_zero(data_config, clip_config):
    data = data_config(
        is_training=False, num_test_clips=2, num_test_crops=3, global_batch_size=8
    )
    index = load_index(data)
    dataset = make_dataset(index, data, clip_config)
    got = list(dataset.as_numpy_iterator())
    assert len(got) == dataset.cardinality() == 7  # 54 views
    joined = {k: np.concatenate([b[k] for b in got]) for k in got[0]}
    np.testing.assert_array_equal(joined["weight"], [1] * 54 + [0] * 2)
    np.testing.assert_array_equal(joined["video"][:54], np.repeat(np.arange(9), 6))
    np.testing.assert_array_equal(joined["view"][:54], np.tile(np.arange(6), 9))
    for video in (0, 8):
        views = read_views(index.videos[video].path, data, clip_config)
        np.testing.assert_array_equal(
            joined["clip"][:54][joined["video"][:54] == video], views
        )


@pytest.fixture
def frame_sizes(tmp_path, clips):
    """Three videos of different sizes and a broken one, as test data of `paper`."""
    sizes = {"a": (48, 72), "b": (64, 48), "c": (48, 48)}
    for name, (height, width) in sizes.items():
        clips.write(tmp_path / f"{name}.mp4", 40, height, width)
    (tmp_path / "d.mp4").write_text("not a video")
    (tmp_path / "list.txt").write_text("a.mp4 0\nb.mp4 1\nd.mp4 2\nc.mp4 3\n")
    return tmp_path / "list.txt"


@pytest.mark.parametrize("replicas", [1, 2])
def test_whole_frames_come_in_batches_of_one_video(
    frame_sizes, data_config, clip_config, replicas
):
    data = data_config(
        input_path=str(frame_sizes),
        is_training=False,
        test_protocol="paper",
        num_test_clips=5,
        global_batch_size=2 * replicas,
        max_broken_fraction=0.5,
    )
    index = load_index(data)
    context = tf.distribute.InputContext(1, 0, replicas)
    got = batches(-1, index, data, clip_config, input_context=context)
    assert len(got) == 4 * 3  # 3 batches of 2 hold 5 views
    late = batches(-1, index, data, clip_config, input_context=context, start_batch=2)
    assert_same(late, got[2 * replicas :])
    shapes = {0: (32, 48), 1: (43, 32), 3: (32, 32)}
    for video, shape in shapes.items():
        mine = [
            batch
            for batch in got
            if batch["video"][0] == video and any(batch["weight"])
        ]
        joined = {k: np.concatenate([b[k] for b in mine]) for k in mine[0]}
        assert joined["weight"].tolist() == [1] * 5 + [0]
        assert joined["view"][:5].tolist() == list(range(5))
        assert joined["clip"].shape == (6, 4, *shape, 3)
        views = read_views(index.videos[video].path, data, clip_config)
        np.testing.assert_array_equal(joined["clip"][:5], views)
    assert sum(batch["weight"].sum() for batch in got) == 3 * 5


def test_multi_label_batches_are_multi_hot(tmp_path, data_config, clip_config, clips):
    for name in "abc":
        clips.write(tmp_path / f"{name}.mp4", 12)
    (tmp_path / "list.txt").write_text("a.mp4 0 2\nb.mp4\nc.mp4 1\n")
    data = data_config(
        input_path=str(tmp_path / "list.txt"),
        is_training=False,
        is_multilabel=True,
        global_batch_size=3,
    )
    batch = batches(1, load_index(data), data, clip_config)[0]
    assert batch["label"].dtype == np.float32
    np.testing.assert_array_equal(batch["label"], [[1, 0, 1], [0, 0, 0], [0, 1, 0]])


def test_a_broken_video_is_replaced_in_training(
    broken_folder, data_config, clip_config
):
    data = data_config(input_path=str(broken_folder), max_broken_fraction=0.5)
    index = load_index(data)
    failures = FailureLog(0.5)
    got = batches(9, index, data, clip_config, failures=failures)
    broken = {
        i for i, r in enumerate(index.videos) if r.name in ("jump/v1.mp4", "run/v0.mp4")
    }
    seen = np.concatenate([b["video"] for b in got])
    assert set(seen) == set(range(9)) - broken
    labels = np.concatenate([b["label"] for b in got])
    np.testing.assert_array_equal(labels, seen // 3)
    assert set(failures.failures) == {index.videos[i].path for i in broken}
    assert failures.num_read == 9
    resumed = batches(3, index, data, clip_config, start_batch=6)
    assert_same(resumed, got[6:])


def test_a_broken_video_is_left_out_of_a_test(broken_folder, data_config, clip_config):
    data = data_config(
        input_path=str(broken_folder), is_training=False, max_broken_fraction=0.5
    )
    index = load_index(data)
    got = batches(-1, index, data, clip_config)
    video, weight = (np.concatenate([b[k] for b in got]) for k in ("video", "weight"))
    assert len(got) == 3  # as many as if nothing were broken
    np.testing.assert_array_equal(video[weight > 0], [0, 1, 2, 3, 5, 7, 8])


@pytest.mark.parametrize("is_training", [True, False])
def test_too_many_broken_videos_stop_the_run(
    broken_folder, data_config, clip_config, is_training
):
    data = data_config(input_path=str(broken_folder), is_training=is_training)
    failures = FailureLog(0.1)
    with pytest.raises(tf.errors.OpError):
        batches(9, load_index(data), data, clip_config, failures=failures)
    assert isinstance(failures.error, TooManyBroken)
    assert "v1.mp4: cannot be decoded" in str(failures.error)
    assert "v0.mp4" in str(failures.error)


@pytest.mark.parametrize("is_training", [True, False])
def test_nothing_but_broken_videos_is_an_error_whatever_the_limit(
    tmp_path, data_config, clip_config, is_training
):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "v.mp4").write_text("not a video")
    data = data_config(
        input_path=str(tmp_path), is_training=is_training, max_broken_fraction=1.0
    )
    failures = FailureLog(1.0)
    with pytest.raises(tf.errors.OpError):
        batches(2, load_index(data), data, clip_config, failures=failures)
    assert isinstance(failures.error, TooManyBroken)


def test_op_determinism_changes_nothing(data_config, clip_config):
    data = data_config()
    index = load_index(data)
    expected = batches(3, index, data, clip_config)
    tf.keras.utils.set_random_seed(1)
    tf.config.experimental.enable_op_determinism()
    assert_same(batches(3, index, data, clip_config), expected)


def test_a_small_index_that_is_all_broken_ends_beside_a_large_one(
    tmp_path, data_config, clip_config
):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "v.mp4").write_text("not a video")
    data = data_config(input_path=str(tmp_path))
    failures = FailureLog(0.9)
    failures.expect(1000)  # another data set shares the log
    with pytest.raises(tf.errors.OpError):
        batches(1, load_index(data), data, clip_config, failures=failures)
    assert "None of the 1 videos" in str(failures.error)


# Classes of many and of few videos


@pytest.fixture
def long_tail(tmp_path, video_folder):
    """Three classes of six, two and one videos."""
    counts = {"dive": 6, "jump": 2, "run": 1}
    lines = [
        f"{video_folder}/{name}/v{i % 3}.mp4 {name}"
        for name, count in counts.items()
        for i in range(count)
    ]
    path = tmp_path / "list.txt"
    path.write_text("\n".join(lines))
    return str(path)


def test_balanced_batches_have_all_classes_equally_often(
    data_config, clip_config, long_tail
):
    data = data_config(input_path=long_tail, sampling_exponent=0.0, global_batch_size=9)
    for batch in batches(3, load_index(data), data, clip_config, seed=1):
        np.testing.assert_array_equal(np.bincount(batch["label"]), [3, 3, 3])


def test_balanced_training_resumes_exactly_and_on_any_number_of_pipelines(
    data_config, clip_config, long_tail
):
    data = data_config(input_path=long_tail, sampling_exponent=0.5)
    index = load_index(data)
    whole = batches(6, index, data, clip_config, seed=2)
    late = batches(2, index, data, clip_config, seed=2, start_batch=4)
    assert_same(late, whole[4:])
    halves = [
        batches(
            6,
            index,
            data,
            clip_config,
            seed=2,
            input_context=tf.distribute.InputContext(2, pipeline, 2),
        )
        for pipeline in range(2)
    ]
    joined = [
        {key: np.concatenate([a[key], b[key]]) for key in a}
        for a, b in zip(*halves, strict=True)
    ]
    assert_same(joined, whole)


def test_the_rarest_label_of_a_video_counts(data_config, clip_config, tmp_path):
    lines = ["0", "0", "0", "0", "0 1", ""]  # of six videos
    videos = [f"v{i % 3}.mp4 {labels}" for i, labels in enumerate(lines)]
    (tmp_path / "list.txt").write_text("\n".join(videos))
    data = data_config(
        input_path=str(tmp_path / "list.txt"),
        video_root=data_config().input_path + "/dive",
        is_multilabel=True,
        sampling_exponent=0.0,
        global_batch_size=6,
    )
    (batch,) = batches(1, load_index(data), data, clip_config)
    groups = np.bincount(np.searchsorted([4, 5], batch["video"], side="right"))
    np.testing.assert_array_equal(groups, [2, 2, 2])
