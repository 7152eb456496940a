"""Checkpoints are found by their files; damaged ones are recognised and skipped."""

import os
import uuid

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.core.test_saver import State
from trainers.core import checkpoint_files, files
from trainers.core.checkpoint_files import DamagedError
from trainers.core.errors import UserError

DATA = "ckpt-{}.data-00000-of-00001"


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    """With the checkpoints of steps 2, 4 and 10."""
    folder = str(tmp_path)
    if request.param == "remote":
        folder = f"ram://{uuid.uuid4().hex}"
    state = State()
    for step in (2, 4, 10):
        state.at(step)
        checkpoint_files.write(state.checkpoint, files.join(folder, f"ckpt-{step}"))
    return folder


def change(path, by):
    content = bytearray(files.read_bytes(path))
    if by == "remove":
        return files.remove(path)
    if by == "empty":
        content = b""
    if by == "cut":
        content = content[:-7]
    if by == "flip":
        content[len(content) // 2] ^= 4
    files.write_bytes(path, bytes(content))


def values(prefix):
    return dict(checkpoint_files.read(prefix, "model/"))


def test_the_newest_is_found_and_holds_what_was_saved(folder):
    prefix = checkpoint_files.find(folder)
    assert prefix == files.join(folder, "ckpt-10")
    assert checkpoint_files.step_of(prefix) == 10
    (weights,) = values(prefix).values()
    np.testing.assert_array_equal(weights, np.full(100, 10, np.float32))
    found = [checkpoint_files.number(x) for x in checkpoint_files.prefixes(folder)]
    assert found == [10, 4, 2]
    names = {DATA.format(step) for step in found} | {f"ckpt-{s}.index" for s in found}
    assert set(files.listdir(folder)) == names


@pytest.mark.parametrize("by", ["remove", "empty", "cut", "flip"])
@pytest.mark.parametrize("name", ["ckpt-10.index", DATA.format(10)])
def test_a_damaged_newest_is_skipped_by_name(folder, name, by, capsys):
    change(files.join(folder, name), by)
    expected = files.join(folder, "ckpt-4")
    assert checkpoint_files.find(folder) == expected
    reason = "is missing" if by == "remove" else "is damaged"
    err = capsys.readouterr().err
    assert err.startswith(f"warning: {folder}/ckpt-10: ") and reason in err
    assert f"Using {expected} instead." in err
    with pytest.raises(DamagedError, match=f"{reason}.*newest whole one is {expected}"):
        checkpoint_files.find(files.join(folder, "ckpt-10"))


def test_a_renamed_checkpoint_is_not_taken_for_another_step(tmp_path, capsys):
    state = State()
    state.at(4)
    checkpoint_files.write(state.checkpoint, str(tmp_path / "ckpt-4"))
    for name in ("ckpt-4.index", DATA.format(4)):
        path = tmp_path / name.replace("-4.", "-6.")
        path.write_bytes((tmp_path / name).read_bytes())
    assert checkpoint_files.find(tmp_path) == str(tmp_path / "ckpt-4")
    assert "ckpt-6: holds step 4: it was renamed" in capsys.readouterr().err


def test_the_data_of_another_checkpoint_are_recognised(folder):
    data = files.read_bytes(files.join(folder, DATA.format(4)))
    files.write_bytes(files.join(folder, DATA.format(10)), data)
    assert checkpoint_files.find(folder) == files.join(folder, "ckpt-4")


def test_without_a_whole_one_every_reason_is_listed(folder):
    for step in (2, 4, 10):
        change(files.join(folder, DATA.format(step)), "flip")
    with pytest.raises(DamagedError, match="(?s)none is whole.*-10.*-4.*-2.*from the"):
        checkpoint_files.find(folder)


def test_a_folder_without_checkpoints_is_named(tmp_path):
    with pytest.raises(UserError, match=f"No checkpoint at {tmp_path}"):
        checkpoint_files.find(tmp_path)


def test_the_state_file_is_not_needed(folder):
    for text in ("", "\x00" * 80, 'model_checkpoint_path: "ckpt-2"'):
        files.write_text(files.join(folder, "checkpoint"), text)
        assert checkpoint_files.find(folder).endswith("ckpt-10")


# === Saves that were killed ===


def interrupted(folder, *moved, step=12):
    """A save that was killed when the files `moved` had their names."""
    state = State()
    state.at(step)
    part = files.join(folder, f".ckpt-{step}.{'0' * 16}.part")
    files.make_folder(part)
    state.checkpoint.write(files.join(part, f"ckpt-{step}"))
    for name in moved:
        source, path = files.join(part, name), files.join(folder, name)
        files.write_bytes(path, files.read_bytes(source))
        files.remove(source)


@pytest.mark.parametrize("moved", [(), (DATA.format(12),)])
def test_what_a_killed_save_left_is_removed(folder, moved):
    before = sorted(files.listdir(folder))
    interrupted(folder, *moved)
    files.make_folder(files.join(folder, "ckpt-12_temp"))  # of TensorFlow's own
    files.write_text(files.join(folder, "ckpt-12_temp", "part"), "x")
    checkpoint_files.remove_unfinished(folder)
    assert sorted(files.listdir(folder)) == before


def test_a_save_killed_at_its_last_step_is_kept(folder):
    interrupted(folder, DATA.format(12), "ckpt-12.index")
    checkpoint_files.remove_unfinished(folder)
    assert checkpoint_files.find(folder).endswith("ckpt-12")
    assert len(files.listdir(folder)) == 8


def test_an_error_in_saving_leaves_nothing(folder):
    before = sorted(files.listdir(folder))
    broken = tf.train.Checkpoint(global_step=tf.Variable(0, dtype=tf.int64))
    broken.write = lambda prefix: (files.write_text(prefix, "half"), 1 / 0)
    with pytest.raises(ZeroDivisionError):
        checkpoint_files.write(broken, files.join(folder, "ckpt-12"))
    assert sorted(files.listdir(folder)) == before


def test_a_removed_checkpoint_is_gone(folder):
    checkpoint_files.remove(files.join(folder, "ckpt-4"))
    left = [checkpoint_files.number(x) for x in checkpoint_files.prefixes(folder)]
    assert left == [10, 2] and len(files.listdir(folder)) == 4


def test_files_of_other_names_are_left_alone(tmp_path):
    for name in ("ckpt-4x.index", "my-4.index", ".x.part", "ckpt-4_temps"):
        (tmp_path / name).write_text("")
    checkpoint_files.remove_unfinished(tmp_path)
    assert len(os.listdir(tmp_path)) == 4 and not checkpoint_files.prefixes(tmp_path)
