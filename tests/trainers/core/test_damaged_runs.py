"""Runs go on after damage to files and full disks, and end with the same bits."""

import os
import random
import re
import resource
import shutil
import uuid

import pytest

from tests.trainers.core.test_runner import assert_same, make, scalars, state
from trainers.core import checkpoint_files, files
from trainers.core.checkpoint_files import DamagedError
from trainers.core.files import FileError
from trainers.core.lock import only_one

OPTIONS = ("trainer.max_to_keep=3", "task.dropout_rate=0.5")
STEPS = (3, 4, 6)  # whose checkpoints are kept


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`(folder, state, metrics)` of a run from start to end."""
    folder = tmp_path_factory.mktemp("whole")
    made = make(folder, *OPTIONS)
    metrics = made.train(evaluate=True)
    return folder, state(made), metrics


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of the model directory, to be damaged."""
    return shutil.copytree(whole[0], tmp_path / "copy")


def change(path, position):
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 16
    path.write_bytes(content)


def damage(folder, *steps):
    for step in steps:
        change(folder / f"ckpt-{step}.data-00000-of-00001", 0.5)


def resume(folder, whole, capsys):
    """Runs the same command again; returns the step that it started from."""
    made = make(folder, *OPTIONS)
    metrics = made.train(evaluate=True)
    assert_same(whole[1], state(made))
    assert not metrics or metrics == whole[2]
    assert checkpoint_files.is_whole(str(folder / "ckpt-6"))
    prefix = re.search("Resuming from (.*)", capsys.readouterr().err).group(1)
    return int(prefix.rpartition("-")[2])


def test_a_damaged_newest_checkpoint_costs_only_its_steps(copy, whole, capsys):
    damage(copy, 6)
    best = files.read_json(copy / "best" / "info.json")
    assert resume(copy, whole, capsys) == 4
    found = checkpoint_files.prefixes(copy)
    assert [checkpoint_files.number(x) for x in found] == [6, 4, 3]
    assert all(map(checkpoint_files.is_whole, found))
    assert files.read_json(copy / "best" / "info.json") == best


def test_the_state_file_may_be_lost_with_the_newest(copy, whole, capsys):
    for path in (*copy.glob("ckpt-[46].*"), copy / "checkpoint"):
        path.unlink()
    assert resume(copy, whole, capsys) == 3


def test_the_best_checkpoint_is_the_last_resort(copy, whole, capsys):
    damage(copy, *STEPS)
    best = checkpoint_files.number(checkpoint_files.find(copy / "best"))
    assert resume(copy, whole, capsys) == best


def test_training_does_not_start_anew_over_damaged_checkpoints(copy):
    damage(copy, *STEPS)
    shutil.rmtree(copy / "best")
    before = sorted(os.listdir(copy))
    with pytest.raises(DamagedError, match="none is whole.*\n.*ckpt-6.*\n.*ckpt-4"):
        make(copy, *OPTIONS).train(evaluate=True)
    assert sorted(os.listdir(copy)) == before


@pytest.mark.parametrize("text", ["", '{"step": 6, "in_tr', "[]"])
def test_damaged_results_are_computed_again(copy, whole, capsys, text):
    results = (copy / "eval_results.json").read_text()
    (copy / "eval_results.json").write_text(text)
    assert resume(copy, whole, capsys) == 6
    assert (copy / "eval_results.json").read_text() == results


@pytest.mark.parametrize("name", ["info.json", "eval_results.json"])
def test_metrics_of_the_best_are_computed_again(copy, whole, capsys, name):
    info = (copy / "best" / "info.json").read_text()
    (copy / "best" / "info.json").write_text("")
    if name != "info.json":  # where they would be found without an evaluation
        (copy / name).write_text("")
    assert resume(copy, whole, capsys) == 6
    assert (copy / "best" / "info.json").read_text() == info


def test_what_a_killed_run_left_is_removed(copy, whole, capsys):
    for folder in (copy / f".ckpt-8.{'0' * 16}.part", copy / "best" / "best-8_temp"):
        folder.mkdir()
        (folder / "part").write_text("half")
    resume(copy, whole, capsys)
    for folder in (copy, copy / "best"):
        assert not [x for x in os.listdir(folder) if "part" in x or "temp" in x]


# === Disks ===


def fill(disk):
    with open(disk / "full", "wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))


def test_training_goes_on_without_curves(tmp_path, small_disk, capsys):
    disk = small_disk(64 << 10)
    fill(disk)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train").symlink_to(disk)
    made = make(tmp_path / "run")
    made.train()
    assert made.step == 6
    err = capsys.readouterr().err
    assert f"warning: {tmp_path}/run/train: cannot be written (No space left" in err
    assert "Make room" in err and "TensorBoard will not show step 2" in err
    (disk / "full").unlink()
    make(tmp_path / "run", "trainer.train_steps=8").train()
    assert {step for step, _ in scalars(disk)} >= {8}


def test_a_read_only_disk_does_not_lose_the_scores(
    whole, small_disk, make_read_only, capsys
):
    disk = shutil.copytree(whole[0], small_disk(8 << 20) / "run")
    make_read_only(disk.parent)
    with pytest.raises(FileError, match=r"run/eval_results.json: .*Read-only"):
        make(disk, *OPTIONS, train=False).evaluate(str(disk / "ckpt-6"))
    printed = capsys.readouterr()
    assert f"accuracy {whole[2]['accuracy']:.4f}" in " ".join(printed.out.split())
    assert f"warning: {disk}/validation: cannot be written (Read-only" in printed.err


def test_a_full_disk_can_be_cleared(tmp_path, whole, small_disk, capsys):
    disk = small_disk(256 << 10)
    (disk / "full").write_bytes(bytes(200 << 10))
    with pytest.raises(FileError) as info:
        make(disk, *OPTIONS).train(evaluate=True)
    assert str(disk) in info.value.path and "No space left" in info.value.reason
    assert not [name for name in os.listdir(disk) if "part" in name or "temp" in name]
    found = checkpoint_files.prefixes(disk)
    assert all(map(checkpoint_files.is_whole, found))
    (disk / "full").unlink()
    made = make(disk, *OPTIONS)
    made.train(evaluate=True)
    assert_same(whole[1], state(made))


# === A remote model directory ===


def test_a_remote_run_equals_a_local_one(tmp_path, whole, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = f"ram://{uuid.uuid4().hex}/run"
    with only_one(folder):
        make(folder, *OPTIONS, "trainer.train_steps=3").train(evaluate=True)
    with only_one(folder):
        resumed = make(folder, *OPTIONS)
        metrics = resumed.train(evaluate=True)
    assert_same(whole[1], state(resumed))
    assert metrics == whole[2]
    tester = make(folder, *OPTIONS, train=False)
    assert tester.evaluate(folder) == metrics
    local = {
        os.path.join(os.path.relpath(parent, whole[0]), name)
        for parent, _, names in os.walk(whole[0])
        for name in names
        if "events" not in name
    }
    remote = {name for name in walk(folder) if "events" not in name}
    assert remote == {os.path.normpath(name) for name in local}
    assert any(name.startswith("train/events") for name in walk(folder))
    assert os.listdir(tmp_path) == []


def walk(folder, prefix=""):
    for name in files.listdir(files.join(folder, prefix)):
        path = os.path.join(prefix, name)
        if files.is_folder(files.join(folder, path)):
            yield from walk(folder, path)
        else:
            yield path


# === Many damaged folders ===


def mutate(folder, chance):
    """Damages one to three files of checkpoints; returns what was done."""
    done = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        names = [n for n in os.listdir(folder) if n.startswith(("ckpt", "checkpoint"))]
        path = folder / chance.choice(sorted(names))
        kind = chance.choice(("flip", "flip", "cut", "remove", "empty", "swap", "grow"))
        done.append(f"{kind} {path.name}")
        size = path.stat().st_size
        if kind == "flip" and size:
            change(path, chance.random())
        elif kind == "cut":
            os.truncate(path, int(size * chance.random()))
        elif kind == "remove":
            path.unlink()
        elif kind == "empty":
            os.truncate(path, 0)
        elif kind == "grow":
            path.write_bytes(path.read_bytes() + chance.randbytes(100))
        elif kind == "swap":
            other = folder / chance.choice(sorted(names))
            done[-1] += f" {other.name}"
            content = path.read_bytes()
            path.write_bytes(other.read_bytes())
            other.write_bytes(content)
    return done


def intact(folder, original):
    """Steps of the checkpoints whose files are those that were written."""
    found = []
    for step in STEPS:
        names = (f"ckpt-{step}.index", f"ckpt-{step}.data-00000-of-00001")
        if all(
            (folder / n).exists()
            and (folder / n).read_bytes() == (original / n).read_bytes()
            for n in names
        ):
            found.append(step)
    return found


def check_mutation(seed, whole, folder, capsys):
    """Resumes from the newest intact checkpoint or a harmlessly damaged one."""
    shutil.copytree(whole[0], folder)
    shutil.rmtree(folder / "best")
    done = mutate(folder, random.Random(seed))
    good = intact(folder, whole[0])
    held = any(folder.glob("ckpt-*"))
    try:
        step = resume(folder, whole, capsys)
    except DamagedError as error:
        assert not good, done
        assert all(x in str(error) for x in checkpoint_files.prefixes(folder)), done
    else:
        assert held and step >= max(good, default=1), done
    shutil.rmtree(folder)


@pytest.mark.parametrize("seed", range(2))
def test_a_mutated_folder_resumes_or_is_an_error(seed, whole, tmp_path, capsys):
    check_mutation(seed, whole, tmp_path / "run", capsys)


@pytest.mark.hostile
def test_100_mutated_folders_resume_or_are_errors(whole, tmp_path, capsys):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(100):
        check_mutation(seed, whole, tmp_path / "run", capsys)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1 << 20  # KiB
