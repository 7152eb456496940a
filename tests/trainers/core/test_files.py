"""The file module, on local disks, on full and read-only ones, and on a remote one."""

import contextlib
import os
import pathlib
import pickle
import subprocess
import sys
import uuid

import pytest
import tensorflow as tf

from trainers.core import files
from trainers.core.files import FileError


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    if request.param == "local":
        return str(tmp_path)
    name = f"ram://{uuid.uuid4().hex}"
    tf.io.gfile.makedirs(name)
    return name


def test_a_file_is_written_replaced_and_removed(folder):
    path = files.join(folder, "deep", "a.json")
    files.write_json(path, {"a": 1})
    files.write_json(path, {"a": 2})
    assert files.read_json(path) == {"a": 2}
    assert files.listdir(files.join(folder, "deep")) == ["a.json"]
    assert files.is_file(path) and files.is_folder(files.join(folder, "deep"))
    files.remove(path)
    files.remove(path)
    assert not files.exists(path)


def test_an_error_while_writing_keeps_the_old_file(folder):
    path = files.join(folder, "a.txt")
    files.write_text(path, "old")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as part:
        files.write_text(part, "half")
        raise ZeroDivisionError
    assert files.read_text(path) == "old"
    assert files.listdir(folder) == ["a.txt"]


def test_a_folder_appears_complete(folder):
    path = files.join(folder, "1")
    with files.creating_folder(path, last="saved_model.pb") as part:
        pathlib.Path(part, "variables").mkdir()
        pathlib.Path(part, "variables", "index").write_text("v")
        pathlib.Path(part, "saved_model.pb").write_text("s")
        assert not files.exists(path)
    assert files.read_text(files.join(path, "variables", "index")) == "v"
    assert files.read_text(files.join(path, "saved_model.pb")) == "s"
    assert files.listdir(folder) == ["1"]
    with contextlib.suppress(FileError):
        files.remove_folder(path)
    assert not files.exists(path)


def test_an_error_leaves_no_folder(folder):
    path = files.join(folder, "1")
    with pytest.raises(ZeroDivisionError), files.creating_folder(path, "x") as part:
        pathlib.Path(part, "x").write_text("s")
        raise ZeroDivisionError
    assert files.listdir(folder) == []


def test_a_remote_folder_of_another_process_is_left_to_it():
    path = "ram://claimed/1"
    files.write_text(f"{path}/variables/index", "theirs")
    with pytest.raises(FileError, match="claimed/1: another process has written it"):
        with files.creating_folder(path, last="saved_model.pb") as part:
            pathlib.Path(part, "saved_model.pb").write_text("ours")
    assert files.listdir(path) == ["variables"]
    assert files.read_text(f"{path}/variables/index") == "theirs"


def test_errors_name_the_path_and_the_reason(folder):
    path = files.join(folder, "none.txt")
    with pytest.raises(FileError) as info:
        files.read_text(path)
    assert path in str(info.value) and info.value.path == path
    assert "cannot be read" in info.value.reason


@pytest.mark.parametrize(("text", "found"), [("", "is empty"), ("{1", "is not JSON")])
def test_damaged_json_is_named(folder, text, found):
    path = files.join(folder, "a.json")
    files.write_text(path, text)
    with pytest.raises(FileError, match=f"{found}.*the file is damaged"):
        files.read_json(path)


def test_an_unknown_file_system_is_named():
    with pytest.raises(
        FileError, match=r"nfs4://a/b: .*no such file system.*disk or gs://\.$"
    ):
        files.exists("nfs4://a/b")


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("gs://bucket/x", True),
        ("ram://x", True),
        ("12:30.mp4", False),
        ("a/12://30.mp4", False),
        ("clips", False),
    ],
)
def test_only_schemes_are_remote(path, remote):
    assert files.is_remote(path) is remote
    assert files.join("root", path) == (path if remote else f"root/{path}")


def test_only_unfinished_files_are_removed(tmp_path):
    ours = [f".a.json.{16 * 'a'}.part", f".1.{16 * '0'}.part"]
    others = ["a.part", ".hidden", f".a.{16 * 'g'}.part", ".a.12.part"]
    for name in [*ours, *others]:
        (tmp_path / name).write_text("x")
    files.remove_parts(tmp_path, unused_for=60)
    assert sorted(files.listdir(tmp_path)) == sorted(ours + others)
    files.remove_parts(tmp_path)
    assert sorted(files.listdir(tmp_path)) == sorted(others)


def test_a_killed_writer_leaves_only_a_part(tmp_path):
    script = (
        "import os, signal\n"
        "from trainers.core import files\n"
        f"with files.replacing({str(tmp_path / 'a')!r}) as part:\n"
        "    open(part, 'w').write('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=os.getcwd())
    assert len(os.listdir(tmp_path)) == 1 and not (tmp_path / "a").exists()
    files.remove_parts(tmp_path)
    assert not os.listdir(tmp_path)


def test_the_import_of_tensorflow_is_left_to_remote_paths(tmp_path):
    script = (
        "import sys\n"
        "from trainers.core import files\n"
        f"files.write_json({str(tmp_path / 'a')!r}, 1)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=os.getcwd(), check=True)


def test_errors_keep_their_path_in_another_process(tmp_path):
    with pytest.raises(FileError) as info:
        files.read_bytes(tmp_path / "none")
    copy = pickle.loads(pickle.dumps(info.value))
    assert (str(copy), copy.path, copy.reason) == (
        str(info.value),
        info.value.path,
        info.value.reason,
    )


@pytest.mark.parametrize("name", ["a", "deep/a"])
def test_an_open_file_is_read_in_any_order(folder, name):
    path = files.join(folder, name)
    files.write_bytes(path, b"0123456789")
    file = files.open_to_read(path)
    file.seek(0, 2)
    assert file.tell() == files.state(path)[1] == 10
    file.seek(7)
    assert (file.read(2), file.read(1)) == (b"78", b"9")
    file.close()
    with pytest.raises(FileError, match="none: cannot be read"):
        files.state(files.join(folder, "none"))


def test_a_full_disk_keeps_the_old_file(small_disk):
    disk = small_disk(64 << 10)
    path = disk / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(FileError, match=r"a\.txt: .*No space left.*Make room"):
        files.write_text(path, "x" * (256 << 10))
    assert files.read_text(path) == "old" and files.listdir(disk) == ["a.txt"]


def test_a_full_disk_leaves_no_folder(small_disk):
    disk = small_disk(64 << 10)
    path = disk / "1"
    with pytest.raises(FileError, match=r"disk0/1: .*No space left.*Make room"):
        with files.creating_folder(path, last="x") as part:
            pathlib.Path(part, "x").write_bytes(bytes(256 << 10))
    assert files.listdir(disk) == []


def test_tensorflow_on_a_full_disk_is_named_too(small_disk):
    path = small_disk(64 << 10) / "a.tfrecord"
    message = r"a\.tfrecord: cannot be written \(No space left on device\). Make room"
    with pytest.raises(FileError, match=message):
        with files.replacing(path) as part, tf.io.TFRecordWriter(part) as writer:
            writer.write(bytes(256 << 10))


def test_a_read_only_disk_is_named(small_disk, make_read_only):
    disk = small_disk(64 << 10)
    make_read_only(disk)
    with pytest.raises(FileError, match=r"a\.txt: .*Read-only file system.*Name a"):
        files.write_text(disk / "a.txt", "x")
