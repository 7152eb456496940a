"""Damaged files end in a `CheckpointError` or a correct load, and soon."""

import random

import numpy as np
import pytest

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import hdf5, read_checkpoint
from tests.convert.files import samples
from tests.convert.files.limits import limited, measured_peak

SAMPLES = samples.all_formats()
# Formats that check their content: a flipped bit never goes unnoticed in them.
CHECKSUMS = ("torch zip", "gzip", "tar.gz", "zip")
VARIANTS = {name: 100 for name in SAMPLES} | {"hdf5": 40}  # a process for each


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


def check_variants(sample, seeds, path):
    data, _, find = SAMPLES[sample]
    loads = 0
    for seed in seeds:
        variant, cut = damaged(data, seed)
        path.write_bytes(variant)
        try:
            with limited(seconds=20):
                content = read_checkpoint(path).content
        except CheckpointError as error:
            assert "fit into memory" not in str(error), seed
            continue
        loads += 1
        if cut or sample in CHECKSUMS:
            assert same_weights(find(content), samples.weights()), seed
    return loads


@pytest.fixture(autouse=True)
def _short_time_for_hdf5(monkeypatch):
    monkeypatch.setattr(hdf5, "SECONDS", 10)


@pytest.mark.parametrize("sample", SAMPLES)
def test_damaged_variants(sample, tmp_path):
    check_variants(sample, range(VARIANTS[sample]), tmp_path / "x")


@pytest.mark.slow
@pytest.mark.parametrize("sample", SAMPLES)
def test_thousands_of_damaged_variants(sample, tmp_path):
    count = 300 if sample == "hdf5" else 3000
    start = VARIANTS[sample]
    check_variants(sample, range(start, start + count), tmp_path / "x")


def test_a_process_that_hangs_is_ended(tmp_path, monkeypatch):
    script = tmp_path / "hangs.py"
    script.write_text("while True:\n    pass\n")
    monkeypatch.setattr(hdf5, "PROCESS", script)
    monkeypatch.setattr(hdf5, "SECONDS", 0.3)
    (tmp_path / "x.h5").write_bytes(samples.hdf5(samples.weights()))
    with pytest.raises(CheckpointError, match="busy for over 0 seconds"):
        read_checkpoint(tmp_path / "x.h5")


def test_a_process_that_crashes_is_an_error(tmp_path, monkeypatch):
    script = tmp_path / "crashes.py"
    script.write_text("import os\nos.abort()\n")
    monkeypatch.setattr(hdf5, "PROCESS", script)
    (tmp_path / "x.h5").write_bytes(samples.hdf5(samples.weights()))
    with pytest.raises(CheckpointError, match="crashes the HDF5 library"):
        read_checkpoint(tmp_path / "x.h5")


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
MANY = {"gzipped tar": 6}


@pytest.mark.parametrize("name", WRITERS)
def test_memory_is_a_small_multiple_of_the_file(name, tmp_path):
    data = WRITERS[name](LARGE)
    (tmp_path / "x").write_bytes(data)
    with measured_peak() as peak:
        read_checkpoint(tmp_path / "x")
    assert peak[0] < MANY.get(name, 4) * len(data)
