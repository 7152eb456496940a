"""Descriptions in `.keras` files from elsewhere: damaged, locked, or endless."""

import struct
import zipfile

import pytest

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.keras_file import read_metadata
from keras_nonlocal.convert.known import read_known
from tests.convert.files import samples
from tests.convert.files.limits import limited

DESCRIPTION = b'{"keras_nonlocal": {"class_names": ["a", "b"]}}'


def write(path, description=DESCRIPTION, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", samples.hdf5(samples.weights()))
        file.writestr("metadata.json", description)
    return path


def change(path, field, value):
    """Changes a field of two bytes of the last file in the table."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, data.rindex(b"PK\1\2") + field, value)
    path.write_bytes(data)


def damage(path):
    data = bytearray(path.read_bytes())
    data[data.rindex(b"metadata.json", 0, data.index(b"PK\1\2")) + 20] ^= 0xFF
    path.write_bytes(data)


DAMAGES = {
    "encrypted": lambda path: change(path, 8, 1),
    "of a later version": lambda path: change(path, 6, 99),
    "compressed in a rare way": lambda path: change(path, 10, 99),
    "another byte": damage,
    "deep": lambda path: write(path, b'{"a":' * 10**5),
    "not JSON": lambda path: write(path, b"x"),
    "not a dict": lambda path: write(path, b"[1]"),
    "not text": lambda path: write(path, b"\xff\xfe"),
    "of many lists": lambda path: write(path, b"[" + b"[]," * 10**7 + b"[]]"),
    "long": lambda path: write(path, bytes(3 * 10**8)),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_descriptions_end_in_an_error(name, tmp_path):
    path = write(tmp_path / "x.keras")
    assert read_metadata(path) == {"class_names": ["a", "b"]}
    DAMAGES[name](path)
    for read in (read_metadata, lambda path: read_known(path, "keras_nonlocal")):
        with limited(seconds=20), pytest.raises(CheckpointError, match=r"x\.keras"):
            read(path)


def test_files_without_a_description(tmp_path):
    write(tmp_path / "x.keras", b"{}")
    assert read_metadata(tmp_path / "x.keras") == {}
    for name in ("x.keras", "none"):
        assert read_known(tmp_path / name, "keras_nonlocal") == ({}, {}, None)
