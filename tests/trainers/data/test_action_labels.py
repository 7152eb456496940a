"""Labels of clips, from the times of the actions in a Charades CSV."""

import itertools
import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.data.record_files import SETTINGS
from trainers.video_classification.data import DataError, load_index, make_dataset
from trainers.video_classification.data.tfrecords.shards import write_shards

FPS, LENGTHS = 24, {"LONG": 60, "MIDDLE": 25, "SHORT": 5}
HEADER = "id,actions,length\n"


def random_actions(generator, length):
    """Some shorter than a frame, some after the end, some that end before the start."""
    for _ in range(6):
        start = generator.uniform(0, 1.1 * length / FPS)
        end = start + generator.choice([-0.2, 0.01, 0.1, 0.5])
        yield int(generator.integers(157)), f"{start:.2f}", f"{max(end, 0):.2f}"


@pytest.fixture(scope="module")
def actions():
    generator = np.random.default_rng(0)
    made = {name: list(random_actions(generator, n)) for name, n in LENGTHS.items()}
    made["LONG"] += [(7, "0.00", "0.50"), (7, "2.00", "2.50")]  # one label twice
    return made | {"NONE": []}


@pytest.fixture(scope="module")
def csv(tmp_path_factory, clips, actions):
    """Path of a Charades CSV with four videos whose frames show their number."""
    folder, rows = tmp_path_factory.mktemp("charades"), HEADER
    for name, times in actions.items():
        text = ";".join(f"c{label:03d} {start} {end}" for label, start, end in times)
        rows += f"{name},{text},1.0\n"
        clips.write(folder / f"{name}.mp4", LENGTHS.get(name, 12), 36, 36, fps=FPS)
    (folder / "train.csv").write_text(rows)
    return str(folder / "train.csv")


@pytest.fixture
def config(csv, data_config):
    def make(**overrides):
        size = dict(min_short_side=36, max_short_side=36, crop_size=36)
        settings = dict(input_path=csv, is_multilabel=True, horizontal_flip=False)
        return data_config(**(size | settings | overrides))

    return make


@pytest.fixture
def read(clip_config):
    """Function that reads the first batches of a config."""

    def read(data, count=1, **kwargs):
        dataset = make_dataset(load_index(data), data, clip_config, **kwargs)
        return list(dataset.take(count).as_numpy_iterator())

    return read


def pyslowfast_labels(actions, num_frames, first, last):
    """As its `aggregate_labels`: of the label lists of the frames first to last."""
    of_frame = [[] for _ in range(num_frames)]
    for number, label_list in enumerate(of_frame):
        for label, start, end in actions:
            if float(start) <= number / FPS <= float(end):
                label_list.append(label)
    labels = set(itertools.chain.from_iterable(of_frame[first : last + 1]))
    return [float(label in labels) for label in range(157)]


def test_clips_have_the_labels_of_their_frames_as_in_pyslowfast(
    config, read, clips, actions
):
    names, seen = list(actions), set()
    for batch in read(config(), 25):
        assert batch["label"].dtype == np.float32
        rows = zip(batch["clip"], batch["video"], batch["label"], strict=True)
        for clip, video, label in rows:
            name, frames = names[video], clips.numbers(clip).tolist()
            first, last = min(frames), max(frames)  # SHORT repeats frames
            expected = pyslowfast_labels(
                actions[name], LENGTHS.get(name, 12), first, last
            )
            assert label.tolist() == expected
            seen.add((name, first, sum(expected)))
    # More than one start and more than one set of labels; clips without any.
    assert len({first for name, first, _ in seen if name == "LONG"}) > 5
    assert len({count for name, _, count in seen if name == "LONG"}) > 2
    assert any(count == 0 for name, _, count in seen if name == "MIDDLE")
    assert any(count > 0 for name, _, count in seen if name == "SHORT")


def test_test_views_have_the_labels_of_their_video(config, read, actions):
    data = config(is_training=False, num_test_clips=2, num_test_crops=1)
    for batch in read(data, 2):
        for video, label in zip(batch["video"], batch["label"], strict=True):
            expected = {label for label, *_ in actions[list(actions)[video]]}
            assert set(np.flatnonzero(label)) == expected


@pytest.fixture
def charades_shards(tmp_path, config):
    folder = tmp_path / "records"
    write_shards(load_index(config()), str(folder), **SETTINGS)
    return folder


@pytest.mark.parametrize("with_json", [True, False])
def test_shards_keep_the_times(
    charades_shards, config, read, clips, actions, with_json
):
    data = config(input_path=str(charades_shards))
    expected = {video.name: video for video in load_index(config()).videos}
    if not with_json:
        for path in charades_shards.glob("clips-*.json"):
            path.unlink()
    videos = load_index(data).videos
    assert {v.name: (v.labels, v.actions) for v in videos} == {
        name: (v.labels, v.actions) for name, v in expected.items()
    }
    for batch in read(data, 10):
        rows = zip(batch["clip"], batch["video"], batch["label"], strict=True)
        for clip, video, label in rows:
            name, frames = videos[video].name[:-4], clips.numbers(clip)
            span = LENGTHS.get(name, 12), frames.min(), frames.max()
            assert label.tolist() == pyslowfast_labels(actions[name], *span)


def test_shards_are_refused_if_the_times_have_changed(charades_shards, config):
    index = load_index(config())
    write_shards(index, str(charades_shards), **SETTINGS)  # the same: nothing to do
    path = charades_shards.parent / "other.csv"
    text = pathlib.Path(index.path).read_text()
    path.write_text(text.replace("c007 2.00 2.50", "c007 2.10 2.50"))
    root = os.path.dirname(index.path)
    other = load_index(config(input_path=str(path), video_root=root))
    with pytest.raises(DataError, match="was written from other videos"):
        write_shards(other, str(charades_shards), **SETTINGS)


def test_shards_without_times_have_no_features_for_them(shards):
    for path in shards.glob("clips-*.tfrecord"):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            example = tf.train.SequenceExample.FromString(record)
            assert not [k for k in example.context.feature if k.startswith("actions")]
        rows = json.loads(path.with_suffix(".json").read_text())["records"]
        assert all(len(row) == 3 for row in rows)


def test_the_frame_cache_changes_no_label(config, read, tmp_path):
    plain, cached = config(), config(frame_cache=str(tmp_path / "cache"))
    for a, b in zip(read(plain, 5), read(cached, 5), strict=True):
        np.testing.assert_array_equal(a["label"], b["label"])
        np.testing.assert_array_equal(a["video"], b["video"])


def test_clips_of_an_unknown_frame_rate_have_all_labels(
    charades_shards, tmp_path, config, read, actions, caplog
):
    (tmp_path / "unknown").mkdir()
    for path in charades_shards.glob("*.tfrecord"):
        with tf.io.TFRecordWriter(str(tmp_path / "unknown" / path.name)) as writer:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                example = tf.train.SequenceExample.FromString(record)
                del example.context.feature["image/frame_rate"]
                writer.write(example.SerializeToString())
    data = config(input_path=str(tmp_path / "unknown"))
    videos = load_index(data).videos
    for batch in read(data, 3):
        for video, label in zip(batch["video"], batch["label"], strict=True):
            expected = {label for label, *_ in actions[videos[video].name[:-4]]}
            assert set(np.flatnonzero(label)) == expected
    warnings = [m for m in caplog.messages if "frame rate is unknown" in m]
    assert len(warnings) == 3  # one for each video with actions


@pytest.mark.parametrize(
    "action",
    ["c092", "c092 11.90", "c092 1 2 3", "c092 a b", "c092 nan 2.0", "c092 0 inf"],
)
def test_a_malformed_action_is_named(tmp_path, data_config, action):
    path = tmp_path / "train.csv"
    path.write_text(HEADER + f"A,c001 0.0 1.0,3\nB,c002 0.0 1.0;{action},3\n")
    with pytest.raises(DataError, match="train.csv:3: an action must be") as raised:
        load_index(data_config(input_path=str(path), is_multilabel=True))
    assert f"Received: '{action}'" in str(raised.value)


def test_actions_that_end_before_their_start_are_counted(tmp_path, data_config, caplog):
    (tmp_path / "A.mp4").touch()
    (tmp_path / "train.csv").write_text(HEADER + "A,c001 0.0 1.0;c003 2.0 1.5,3\n")
    data = data_config(input_path=str(tmp_path / "train.csv"), is_multilabel=True)
    assert load_index(data).videos[0].labels == (1, 3)
    assert "train.csv: 1 of 2 actions end before they start" in caplog.text
