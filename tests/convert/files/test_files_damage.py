"""Damaged files end in a `CheckpointError` or a correct load, and soon."""

import random

import numpy as np
import pytest

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import read_checkpoint
from tests.convert.files import samples
from tests.convert.files.limits import limited, measured_child, measured_peak

SAMPLES = samples.all_formats()
FORMATS = (
    *("pickle 4", "python 2 protocol 0", "torch zip", "torch legacy", "safetensors"),
    *("hdf5", "keras", "gzip", "tar"),
)
# Formats that check their content: a flipped bit never goes unnoticed in them.
CHECKSUMS = ("torch zip", "gzip", "tar.gz", "zip")
FEW, MORE, MANY = 5, 25, 200


def damaged(data, seed):
    """`(variant, whether it was only cut short)`."""
    choose = random.Random(seed)
    if seed % 4 == 0:
        return data[: choose.randrange(len(data))], True
    variant = bytearray(data)
    # Half of the damage goes to the head, where most formats keep their structure.
    reach = len(data) if seed % 2 else min(len(data), 400)
    for _ in range(choose.choice([1, 1, 2, 5, 30])):
        position = choose.randrange(reach)
        if choose.random() < 0.5:
            variant[position] ^= 1 << choose.randrange(8)
        else:
            variant[position] = choose.choice([0, 1, 0x7F, 0x80, 0xFF])
    return bytes(variant), False


def same_weights(found, expected):
    return all(
        name in found and np.array_equal(found[name], array)
        for name, array in expected.items()
    )


def check_variant(sample, seed, path):
    data, _, find = SAMPLES[sample]
    variant, cut = damaged(data, seed)
    path.write_bytes(variant)
    try:
        with limited(seconds=60), measured_child() as child, measured_peak() as parent:
            content = read_checkpoint(path).content
    except CheckpointError as error:
        assert str(error).startswith(f"Cannot read {str(path)!r}: "), seed
    else:
        if cut or sample in CHECKSUMS:
            assert same_weights(find(content), samples.weights()), seed
    assert child[0] < 2**30 and parent[0] < 2**26, seed


@pytest.mark.parametrize("sample", FORMATS)
def test_damaged_variants(sample, tmp_path):
    for seed in range(FEW):
        check_variant(sample, seed, tmp_path / "x")


@pytest.mark.slow
@pytest.mark.parametrize("sample", SAMPLES)
def test_more_damaged_variants(sample, tmp_path):
    for seed in range(FEW, MORE):
        check_variant(sample, seed, tmp_path / "x")


@pytest.mark.hostile
@pytest.mark.parametrize("sample", SAMPLES)
def test_hundreds_of_damaged_variants(sample, tmp_path):
    for seed in range(MORE, MANY):
        check_variant(sample, seed, tmp_path / "x")


LARGE = {"conv.weight": np.random.default_rng(0).standard_normal(10**6).astype("f4")}
WRITERS = {
    "python 2": samples.python2,
    "torch zip": samples.torch_zip,
    "torch legacy": samples.torch_legacy,
    "safetensors": samples.safetensors,
    "hdf5": samples.hdf5,
    "gzipped tar": lambda arrays: samples.tarred(
        {"x.pkl": samples.python2(arrays)}, "w:gz"
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_memory_is_a_small_multiple_of_the_file(name, tmp_path):
    data = WRITERS[name](LARGE)
    (tmp_path / "x").write_bytes(data)
    with measured_peak() as peak:
        read_checkpoint(tmp_path / "x")
    assert peak[0] < 2 * len(data)
