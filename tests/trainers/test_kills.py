"""Runs killed at the worst moments go on, and end with the bits of a whole run."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.trainers.core.test_runner import assert_same, make, state
from tests.trainers.runs import finish, start
from trainers.core import checkpoint_files, files
from trainers.core.files import FileError

TOY = """
import sys
from tests.trainers.core.test_runner import make
from trainers.core.lock import only_one
with only_one(sys.argv[1]):
    make(sys.argv[1], "task.dropout_rate=0.5").train(evaluate=True)
"""
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # a serialised message, in no fixed order
OVERRIDES = ("trainer.train_steps=48", "trainer.validation_interval=6")


def names(folder):
    return sorted(
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, folders, found in os.walk(folder)
        for name in (*found, *folders)
        if "events" not in name
    )


def is_saving(folder, step, old):
    """Whether the checkpoint of a step, or of a later one, is being written."""
    names = set(os.listdir(folder)).difference(old) if folder.exists() else ()
    found = [re.match(r"\.ckpt-(\d+)\.", name) for name in names]
    return any(match and int(match.group(1)) >= step for match in found)


def is_evaluating(folder, step, old):
    """Whether a step, or a later one, was saved for its evaluation, without results."""
    newest = checkpoint_files.prefixes(folder)[:1]
    saved = checkpoint_files.number(newest[0]) if newest else 0
    if saved < step or saved % 6:
        return False
    try:
        return files.read_json(folder / "eval_results.json")["step"] != saved
    except FileError:
        return True


def kill_when(condition, process, folder, step=0, delay=0.0):
    """Kills a process `delay` seconds after a condition; whether it still ran."""
    old = os.listdir(folder) if folder.exists() else []
    deadline = time.monotonic() + 240
    while process.poll() is None and not condition(folder, step, old):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1]
    assert "Traceback" not in errors
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written_costs_nothing(tmp_path):
    whole = make(tmp_path / "whole", "task.dropout_rate=0.5")
    whole.train(evaluate=True)
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", TOY, killed], stderr=subprocess.PIPE, text=True
    )
    assert kill_when(is_saving, process, killed)
    resumed = make(killed, "task.dropout_rate=0.5")
    resumed.train(evaluate=True)
    assert_same(state(whole), state(resumed))
    assert [x for x in names(killed) if x != ".lock"] == names(tmp_path / "whole")


# === The command, on videos ===


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    finish(start(config, folder, *OVERRIDES))
    return folder


def assert_same_runs(one, other):
    assert names(one) == names(other)
    for name in ("eval_results.json", "best/info.json", "params.yaml", "classes.txt"):
        assert files.read_text(one / name) == files.read_text(other / name), name
    for prefix in map(checkpoint_files.find, (one, one / "best")):
        mine = dict(checkpoint_files.read(prefix))
        theirs = dict(checkpoint_files.read(str(other / os.path.relpath(prefix, one))))
        assert mine.keys() == theirs.keys() and len(mine) > 100
        for key in mine:
            if key != GRAPH:
                np.testing.assert_array_equal(mine[key], theirs[key], err_msg=key)


def check_chain(config, whole, folder, condition, kills):
    """Kills the same command several times, lets it end, and compares.

    Args:
        kills: For each kill the step to wait for, and seconds to wait after that.
    """
    reached = 0
    for step, delay in kills:
        process = start(config, folder, *OVERRIDES)
        assert kill_when(condition, process, folder, step, delay)
        if checkpoint_files.prefixes(folder) or reached:
            newest = checkpoint_files.number(checkpoint_files.find(folder))
            assert newest >= reached  # none is lost
            reached = newest
    finish(start(config, folder, *OVERRIDES))
    assert_same_runs(whole, folder)


@pytest.mark.hostile
def test_6_kills_while_checkpoints_are_written(config, whole, tmp_path):
    chance = random.Random(0)
    delays = [0, 0.002, *(chance.uniform(0, 0.1) for _ in range(4))]
    kills = zip((4, 6, 12, 16, 18, 24), delays, strict=True)
    check_chain(config, whole, tmp_path / "run", is_saving, kills)


@pytest.mark.hostile
def test_5_kills_while_evaluating(config, whole, tmp_path):
    chance = random.Random(1)
    delays = [0, *(chance.uniform(0, 0.4) for _ in range(4))]
    kills = zip((6, 12, 18, 24, 30), delays, strict=True)
    check_chain(config, whole, tmp_path / "run", is_evaluating, kills)
