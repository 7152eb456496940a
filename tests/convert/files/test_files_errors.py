"""What is no checkpoint is named, and the message says what to do."""

import contextlib
import os

import numpy as np
import pytest

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import read_checkpoint
from tests.convert.files import samples
from tests.convert.files.pickle_writer import Call, pickled

BLOB = samples.python2(samples.weights())
FILES = {
    "empty": (b"", "it is empty: download it again"),
    "page": (
        b"\n<!DOCTYPE html><html>404</html>",
        "an HTML page, .* download the file",
    ),
    "xml": (b'<?xml version="1.0"?><Error/>', "an HTML page"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "a Git LFS pointer.*git lfs pull",
    ),
    "text": (b"Not found.\n", "a text file, .* begins b'Not found"),
    "unicode": ("Größe: 3 Äpfel".encode(), "a text file"),
    "json": (b'{"message": "rate limited"}', "a text file"),
    "noise": (bytes(range(200, 256)) * 9, "of no known format .*c8 c9 ca"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), "a PNG image"),
    "mxnet": (b"\x12\x01\0\0\0\0\0\0" + bytes(99), "an MXNet .params file"),
    "bzip2": (b"BZh91AY&SY", "bzip2-compressed: unpack it first"),
    "array": (b"\x93NUMPY\x01\0", "a single NumPy array"),
    "pickle": (BLOB[:-300], "truncated.*Download it again"),
    "text pickle": (samples.python2_protocol0(samples.weights())[:-90], "truncated"),
    "torch": (
        samples.torch_zip(samples.weights())[:-90],
        r"its zip data is damaged or truncated \(BadZipFile.*Download it again",
    ),
    "legacy": (samples.torch_legacy(samples.weights())[:-9], "truncated"),
    "safetensors": (samples.safetensors(samples.weights())[:-9], "truncated"),
    "safetensors header": (samples.safetensors(samples.weights())[:90], "truncated"),
    "gzip": (samples.tarred({"x.pkl": BLOB}, "w:gz")[:-90], "truncated"),
    "tar": (
        samples.tarred({"x.pkl": BLOB})[:1024],
        "its tar data is damaged or truncated .ReadError: unexpected end",
    ),
    "hdf5": (
        samples.hdf5(samples.weights())[:-90],
        "its HDF5 data is damaged or truncated .*truncated file",
    ),
    "trailing": (BLOB + BLOB, "holds several, or is damaged"),
    "protocol": (b"\x80\x05" + b"\x80\x09.", "unsupported pickle protocol: 9"),
    "model": (
        pickled(Call("torchvision.models.resnet.ResNet", (), {})),
        r"asks for 'torchvision\.models\.resnet\.ResNet'.*save the weights alone",
    ),
    "script": (
        samples.zipped({"m/data.pkl": b"", "m/constants.pkl": b""}),
        "a TorchScript program",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_the_error_says_what_it_is(name, tmp_path):
    data, message = FILES[name]
    path = tmp_path / "i3d.pkl"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"(?s){message}") as error:
        read_checkpoint(path)
    assert str(error.value).startswith(f"Cannot read {str(path)!r}: it")


@pytest.mark.parametrize("pack", [samples.tarred, samples.zipped])
def test_archives_of_several_or_no_checkpoints_name_them(pack, tmp_path):
    path = tmp_path / "zoo"
    path.write_bytes(pack({"a/c2d.pkl": BLOB, "i3d.pkl": BLOB, "README": b"hello"}))
    with pytest.raises(CheckpointError, match=r"several.*'a/c2d\.pkl', 'i3d\.pkl'\."):
        read_checkpoint(path)
    path.write_bytes(pack({"README": b"hello"}))
    with pytest.raises(CheckpointError, match="no checkpoint among its .*'README'"):
        read_checkpoint(path)
    path.write_bytes(pack({}))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_archives_of_arrays_name_them(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(CheckpointError, match="no checkpoint .*'a.npy'"):
        read_checkpoint(tmp_path / "x.npz")


def test_folders_missing_files_and_devices(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder.*such as 'folder/ckpt-1'"):
        read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        read_checkpoint(tmp_path / "none.pth")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(CheckpointError, match="not a regular file"):
            read_checkpoint(path)


@contextlib.contextmanager
def not_as_root():
    """Root may read everything: another user for a while, where tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_files_without_permission_are_not_called_damaged(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(BLOB)
    path.chmod(0)
    with not_as_root():
        with pytest.raises(CheckpointError, match="Permission denied") as error:
            read_checkpoint(path)
    assert "damaged" not in str(error.value)


@pytest.mark.parametrize("path", [".", "/", ".."])
def test_folders_without_a_name(path):
    with pytest.raises(CheckpointError, match="is a folder"):
        read_checkpoint(path)


def test_sparse_and_quantised_tensors_are_named(tmp_path):
    for kind, what in (
        ("_rebuild_sparse_tensor", "a sparse tensor"),
        ("_rebuild_qtensor", "a quantised tensor"),
    ):
        value = {"x": Call(f"torch._utils.{kind}", (1, 2))}
        (tmp_path / "x").write_bytes(samples.torch_zip({}, value))
        with pytest.raises(CheckpointError, match=f"{what}, which is not read"):
            read_checkpoint(tmp_path / "x")


def test_a_flipped_bit_in_a_torch_zip_is_found(tmp_path):
    """Its checksums tell, though the file would load."""
    arrays = samples.weights()
    data = bytearray(samples.torch_zip(arrays))
    data[data.find(arrays["conv.weight"].tobytes()) + 40] ^= 1
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(CheckpointError, match="Bad CRC-32 for file .archive/data/0"):
        read_checkpoint(tmp_path / "x")


def test_safetensors_must_be_gapless(tmp_path):
    data = samples.safetensors(samples.weights(), data_offsets=[0, 32])
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(
        CheckpointError, match="its safetensors data is damaged .*(?i:offset)"
    ):
        read_checkpoint(tmp_path / "x")
