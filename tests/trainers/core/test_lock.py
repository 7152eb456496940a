import os
import subprocess
import sys

import pytest

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
