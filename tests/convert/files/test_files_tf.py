"""`tf.train` checkpoints, whole, damaged and hostile; each read takes seconds."""

import gzip
import pathlib
import shutil

import numpy as np
import pytest

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import read_checkpoint
from tests.convert.files.limits import limited, measured_child, measured_peak

tf = pytest.importorskip("tensorflow")

DTYPES = ("float32", "float64", "float16", "int32", "int64", "uint8", "int8")


def weights():
    rng = np.random.default_rng(0)
    values = {
        f"layer_{i}.x/{dtype}": rng.integers(0, 100, (i, 3)).astype(dtype)
        for i in range(5)
        for dtype in DTYPES
    }
    return values | {"flag": np.array([True, False])}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    variables = {name: tf.Variable(x) for name, x in weights().items()}
    variables["half"] = tf.Variable(tf.constant([1.5, -2.0], tf.bfloat16))
    path = str(tmp_path_factory.mktemp("written") / "ckpt-7")
    return tf.train.Checkpoint(model=variables).write(path)


@pytest.fixture
def checkpoint(written, tmp_path):
    folder = tmp_path / "a [b]"  # a pattern to TensorFlow
    folder.mkdir()
    for part in (index_of(written), data_of(written)):
        shutil.copy(part, folder)
    return str(folder / "ckpt-7")


def index_of(checkpoint):
    return pathlib.Path(f"{checkpoint}.index")


def data_of(checkpoint):
    return index_of(checkpoint).with_suffix(".data-00000-of-00001")


def assert_whole(content):
    np.testing.assert_array_equal(content.pop("model/half"), [1.5, -2.0])
    assert content.keys() == {f"model/{name}" for name in weights()}
    for name, value in weights().items():
        np.testing.assert_array_equal(content[f"model/{name}"], value, strict=True)


def test_all_types_and_many_blocks(checkpoint):
    found, content = read_checkpoint(checkpoint)
    assert found == "tf_checkpoint"
    assert_whole(content)


@pytest.mark.slow
@pytest.mark.parametrize("part", [index_of, data_of])
def test_each_of_its_files_names_it(part, checkpoint):
    assert_whole(read_checkpoint(part(checkpoint)).content)


@pytest.mark.slow
def test_numbers_that_are_cut_short(checkpoint):
    data = data_of(checkpoint)
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="7.* cut short: 'model/.*' cannot"):
        read_checkpoint(checkpoint)


@pytest.mark.slow
def test_numbers_that_are_missing_are_named(checkpoint):
    data_of(checkpoint).unlink()
    with pytest.raises(
        CheckpointError, match="there is no 'ckpt-7.data-00000-of-00001' beside"
    ):
        read_checkpoint(checkpoint)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_index_alone_is_named(pack, checkpoint, tmp_path):
    (tmp_path / "renamed").write_bytes(pack(index_of(checkpoint).read_bytes()))
    with pytest.raises(CheckpointError, match="give their prefix"):
        read_checkpoint(tmp_path / "renamed")


@pytest.mark.slow
def test_flipped_bits_are_found_in_every_part(checkpoint):
    rng = np.random.default_rng(5)
    for path in (index_of(checkpoint), data_of(checkpoint)):
        whole = path.read_bytes()
        # Not the graph of objects, which is not read, nor the index's footer.
        end = len(whole) - 48 if path.suffix == ".index" else 300
        for place in rng.integers(0, end, 5):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match="ckpt"):
                read_checkpoint(checkpoint)
        path.write_bytes(whole)


def damaged_index(whole, seed):
    rng = np.random.default_rng(seed)
    damaged = bytearray(whole)
    for place in rng.integers(0, len(whole), 3):
        damaged[place] ^= 1 << int(rng.integers(8))
    return damaged if seed % 2 else damaged[: rng.integers(len(whole))]


@pytest.mark.slow
def test_damaged_indexes_end_in_an_error_or_a_load(checkpoint):
    whole, refused = index_of(checkpoint).read_bytes(), 0
    for seed in range(12):
        index_of(checkpoint).write_bytes(damaged_index(whole, seed))
        try:
            with limited(300), measured_child() as child, measured_peak() as parent:
                read_checkpoint(checkpoint)
        except CheckpointError as error:
            assert "ckpt" in str(error)
            refused += 1
        assert child[0] < 2**30 and parent[0] < 2**26
    assert refused >= 6  # every cut one


# === Hostile indexes ===


def crc32c_table():
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        yield number


TABLE = tuple(crc32c_table())


def masked_crc32c(data):
    state = 0xFFFFFFFF
    for byte in data:
        state = state >> 8 ^ TABLE[(state ^ byte) & 255]
    state ^= 0xFFFFFFFF
    return ((state >> 15 | state << 17) + 0xA282EAD8) % 2**32


def varint(number):
    """7 bits a byte, the lowest first, a set bit where more follow."""
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def sealed(block):
    """A block and what lies behind it: no compression, the checksum."""
    return block + b"\0" + masked_crc32c(block + b"\0").to_bytes(4, "little")


def index_file(*blocks):
    """A table of which the last block is the index."""
    data = b"".join(map(sealed, blocks))
    handle = varint(len(data) - len(blocks[-1]) - 5) + varint(len(blocks[-1]))
    footer = (b"\0\0" + handle).ljust(40, b"\0")
    return data + footer + bytes.fromhex("57fb808b247547db")


def block_read_again(times=10**5):
    """One block of many empty names, named by many entries of the index."""
    block = b"\0\0\0" * times + bytes(4)
    handle = varint(0) + varint(len(block))
    entry = b"\0\0" + varint(len(handle)) + handle
    return index_file(block, entry * times + bytes(4))


def huge_tensor(length=10**12):
    """A variable of a terabyte, and the bytes for it claimed."""
    shape = b"\x12" + varint(len(varint(length)) + 1) + b"\x08" + varint(length)
    shape = b"\x12" + varint(len(shape)) + shape
    header, entry = b"\x08\x01", b"\x08\x01" + shape + b"\x28" + varint(4 * length)
    block = b"\0\0" + varint(len(header)) + header
    block += b"\0\1" + varint(len(entry)) + b"x" + entry + bytes(4) + b"\1\0\0\0"
    handle = varint(0) + varint(len(block))
    return index_file(
        block, b"\0\1" + varint(len(handle)) + b"y" + handle + bytes(4) + b"\1\0\0\0"
    )


INDEXES = {
    "a number without end": lambda: index_file(b"\xff" * 3 * 10**6 + b"\1" + bytes(6)),
    "a block again and again": block_read_again,
    "a terabyte": huge_tensor,
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=[pytest.mark.slow] * (x != "a terabyte")) for x in INDEXES],
)
def test_hostile_indexes_end_in_an_error_soon(name, tmp_path):
    (tmp_path / "x.index").write_bytes(INDEXES[name]())
    (tmp_path / "x.data-00000-of-00001").write_bytes(bytes(100))
    with limited(300), measured_child() as child, measured_peak() as parent:
        with pytest.raises(CheckpointError, match="index|claims|damaged"):
            read_checkpoint(tmp_path / "x.index")
    assert child[0] < 2**30 and parent[0] < 2**26
