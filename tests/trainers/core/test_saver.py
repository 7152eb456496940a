"""Which checkpoints are kept, on whole, damaged and full disks."""

import json
import os

import pytest
import tensorflow as tf

from trainers.core import checkpoint_files, files
from trainers.core.errors import UserError
from trainers.core.files import FileError
from trainers.core.saver import BestSaver, Saver


class State:
    """A checkpoint whose content follows the step."""

    def __init__(self, size=100):
        self.step = tf.Variable(0, dtype=tf.int64)
        self.weights = tf.Variable(tf.zeros(size))
        self.checkpoint = tf.train.Checkpoint(
            global_step=self.step, model={"a/b": self.weights}
        )

    def at(self, step):
        self.step.assign(step)
        self.weights.assign(tf.fill(self.weights.shape, float(step)))


@pytest.fixture
def save(tmp_path):
    """Function that saves some steps as one training would."""
    return lambda *steps, keep=2, folder=tmp_path: save_all(steps, keep, folder)


def save_all(steps, keep, folder, size=100):
    state = State(size)
    saver = Saver(state.checkpoint, str(folder), keep)
    for step in steps:
        state.at(step)
        saver.save(step)


def cut(path):
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)


def indexes(folder):
    return sorted(p.name for p in folder.glob("*.index"))


def test_the_newest_are_kept(save, tmp_path):
    save(1, 2, 3)
    assert indexes(tmp_path) == ["ckpt-2.index", "ckpt-3.index"]
    assert sorted(os.listdir(tmp_path)) == [
        "checkpoint",
        "ckpt-2.data-00000-of-00001",
        "ckpt-2.index",
        "ckpt-3.data-00000-of-00001",
        "ckpt-3.index",
    ]


def test_other_programs_find_the_newest(save, tmp_path):
    save(9, 10, 11)
    state = tf.train.get_checkpoint_state(str(tmp_path))
    names = [os.path.basename(path) for path in state.all_model_checkpoint_paths]
    assert names == ["ckpt-10", "ckpt-11"]
    newest = tf.train.latest_checkpoint(str(tmp_path))
    assert checkpoint_files.step_of(newest) == 11


@pytest.mark.parametrize("state_file", [None, "", 'model_checkpoint_path: "ckpt-1"'])
def test_checkpoints_without_a_valid_state_file_are_kept(save, tmp_path, state_file):
    save(1, 2)
    (tmp_path / "checkpoint").unlink()
    if state_file is not None:
        (tmp_path / "checkpoint").write_text(state_file)
    save(3)
    assert indexes(tmp_path) == ["ckpt-2.index", "ckpt-3.index"]


def test_a_damaged_checkpoint_does_not_take_the_place_of_a_whole_one(save, tmp_path):
    save(1, 2, 3, keep=3)
    cut(tmp_path / "ckpt-3.data-00000-of-00001")
    save(4)  # the run resumed from step 2, with another interval
    assert indexes(tmp_path) == ["ckpt-2.index", "ckpt-3.index", "ckpt-4.index"]
    save(5)
    assert indexes(tmp_path) == ["ckpt-4.index", "ckpt-5.index"]


def test_a_newer_damaged_checkpoint_stays_until_its_step_is_saved(save, tmp_path):
    save(1, 2, 9, keep=3)
    cut(tmp_path / "ckpt-9.index")
    save(3, 4)
    assert indexes(tmp_path) == ["ckpt-3.index", "ckpt-4.index", "ckpt-9.index"]
    save(9)
    assert indexes(tmp_path) == ["ckpt-4.index", "ckpt-9.index"]
    assert checkpoint_files.is_whole(str(tmp_path / "ckpt-9"))


def test_the_checkpoint_that_was_restored_is_not_saved_again(save, tmp_path):
    save(5)
    before = (tmp_path / "ckpt-5.index").stat().st_mtime_ns
    Saver(State().checkpoint, str(tmp_path), 2, saved_step=5).save(5)
    assert (tmp_path / "ckpt-5.index").stat().st_mtime_ns == before


def test_only_the_chief_leaves_files(tmp_path):
    Saver(State().checkpoint, str(tmp_path), 2, is_chief=False).save(0)
    assert os.listdir(tmp_path) == []


# === Full and read-only disks ===


def test_a_disk_too_small_for_the_first_checkpoint_claims_no_earlier_one(small_disk):
    with pytest.raises(FileError, match="None has been saved before."):
        save_all([1], 2, small_disk(1 << 18), 100_000)


def test_a_full_disk_keeps_what_is_there_and_leaves_nothing_else(small_disk):
    disk = small_disk(1 << 20)
    size = 100_000  # floats: two fit
    save_all([1, 2], 2, disk, size)
    before = sorted(os.listdir(disk))
    with pytest.raises(FileError) as info:
        save_all([3], 2, disk, size)
    assert str(info.value) == (
        f"{disk}/ckpt-3: cannot be written (No space left on device). Make room on "
        f"the disk, and run the same command again. The last one is {disk}/ckpt-2."
    )
    assert sorted(os.listdir(disk)) == before
    assert all(map(checkpoint_files.is_whole, checkpoint_files.prefixes(disk)))
    checkpoint_files.remove(str(disk / "ckpt-1"))
    save_all([3], 2, disk, size)
    assert checkpoint_files.find(disk).endswith("ckpt-3")


def test_a_read_only_disk_is_named(small_disk, make_read_only):
    disk = small_disk(1 << 20)
    make_read_only(disk)
    with pytest.raises(FileError, match=r"ckpt-3: .*Read-only file system.*Name a"):
        save_all([3], 2, disk)


# === The best ===


@pytest.fixture
def best_saver(tmp_path):
    state = State()

    def make(metric="top1", higher=True):
        saver = BestSaver(state.checkpoint, str(tmp_path / "best"), metric, higher)

        def save_if_best(step, metrics):
            state.at(step)
            return saver.save_if_best(step, metrics)

        saver.at = save_if_best
        return saver

    return make


def test_the_best_is_kept_over_restarts(best_saver, tmp_path):
    first = best_saver()
    assert first.at(1, {"top1": 0.5, "broken": {}})
    assert not first.at(2, {"top1": 0.4})
    again = best_saver()
    assert again.unrated is None
    assert not again.at(3, {"top1": 0.5})
    assert again.at(4, {"top1": 0.6})
    assert indexes(tmp_path / "best") == ["best-4.index"]
    assert checkpoint_files.find(tmp_path / "best").endswith("best-4")
    info = json.loads((tmp_path / "best" / "info.json").read_text())
    assert info == {"step": 4.0, "top1": 0.6}


def test_lower_can_be_better_and_nan_never_is(best_saver):
    keeper = best_saver("loss", higher=False)
    assert not keeper.at(1, {"loss": float("nan")})
    assert keeper.at(2, {"loss": 0.5})
    assert not keeper.at(3, {"loss": 0.6})
    assert not keeper.at(4, {"loss": float("nan")})
    assert keeper.at(5, {"loss": 0.4})


def test_an_unknown_metric_is_named_with_the_available_ones(best_saver):
    with pytest.raises(UserError, match=r"'top2'.*loss, top1"):
        best_saver("top2").at(1, {"top1": 0.1, "loss": 1.0})


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"step": 1}', '{"top1": 1}'])
def test_without_its_metrics_the_best_is_to_be_rated(
    best_saver, tmp_path, capsys, text
):
    best_saver().at(1, {"top1": 0.5})
    info = tmp_path / "best" / "info.json"
    info.unlink()
    if text is not None:
        info.write_text(text)
    again = best_saver()
    assert again.unrated == str(tmp_path / "best" / "best-1")
    assert f"warning: {info}: " in capsys.readouterr().err
    again.rate({"top1": 0.5})
    assert files.read_json(info) == {"step": 1, "top1": 0.5}
    assert not again.at(2, {"top1": 0.4})
    assert indexes(tmp_path / "best") == ["best-1.index"]
    assert again.at(3, {"top1": 0.6})
    assert indexes(tmp_path / "best") == ["best-3.index"]


def test_a_kill_before_the_metrics_are_written_loses_nothing(best_saver, tmp_path):
    best_saver().at(1, {"top1": 0.5})
    old = (tmp_path / "best" / "info.json").read_text()
    best_saver().at(2, {"top1": 0.6})
    (tmp_path / "best" / "info.json").write_text(old)
    assert best_saver().unrated == str(tmp_path / "best" / "best-2")


def test_a_damaged_best_is_named_and_replaced(best_saver, tmp_path, capsys):
    best_saver().at(1, {"top1": 0.5})
    cut(tmp_path / "best" / "best-1.data-00000-of-00001")
    again = best_saver()
    assert again.unrated is None
    err = capsys.readouterr().err
    assert "best-1: is damaged" in err and "best checkpoint is lost" in err
    assert again.at(2, {"top1": 0.1})
    assert indexes(tmp_path / "best") == ["best-2.index"]
