import os
import subprocess
import sys
import uuid

import pytest

from trainers.core import files
from trainers.core.errors import UserError
from trainers.core.lock import only_one


def test_a_second_training_in_a_directory_is_refused(tmp_path):
    with only_one(tmp_path):
        with pytest.raises(UserError, match=f"Process {os.getpid()} is training in"):
            with only_one(tmp_path):
                pass
    with only_one(tmp_path):  # and free again
        pass


def test_a_killed_process_leaves_no_lock(tmp_path):
    code = (
        "import os, sys; from trainers.core.lock import only_one\n"
        "with only_one(sys.argv[1]): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path])
    assert done.returncode == -9
    with only_one(tmp_path):
        pass


def test_a_file_in_its_place_is_named(tmp_path):
    (tmp_path / "model").write_text("")
    with pytest.raises(UserError, match="model is a file"):
        with only_one(tmp_path / "model"):
            pass


def test_a_lock_without_a_process_number_still_holds(tmp_path):
    with only_one(tmp_path):
        (tmp_path / ".lock").write_text("")
        with pytest.raises(UserError, match="Another process is training in"):
            with only_one(tmp_path):
                pass


def test_a_full_disk_can_be_locked(small_disk):
    disk = small_disk(64 << 10)
    (disk / ".lock").write_text("")
    with open(disk / "full", "wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))
    with only_one(disk):
        with pytest.raises(UserError, match="Another process is training in"):
            with only_one(disk):
                pass


def test_a_lock_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match=rf"{tmp_path}/\.lock: cannot be written"):
        with only_one(tmp_path):
            pass


def test_a_remote_directory_is_created_without_a_lock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = f"ram://{uuid.uuid4().hex}/run"
    with only_one(folder):
        assert files.is_folder(folder) and files.listdir(folder) == []
    assert os.listdir(tmp_path) == []
