"""Every format gives the same names and numbers, whatever the file is called."""

import collections
import gzip
import json
import os
import pickle
import types

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import read_checkpoint
from tests.convert.files import samples
from tests.convert.files.pickle_writer import Call, Name, pickled

SAMPLES = samples.all_formats()
WRONG_SUFFIX = {"safetensors": ".pth"}


@pytest.fixture
def read(tmp_path):
    """Reads bytes as a file of any name."""

    def read_bytes(data, name="x"):
        (tmp_path / name).write_bytes(data)
        return read_checkpoint(tmp_path / name)

    return read_bytes


def assert_same_weights(found, expected):
    assert set(found) >= set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("sample", SAMPLES)
def test_content_decides_and_not_the_suffix(sample, read):
    data, expected_format, find = SAMPLES[sample]
    suffix = WRONG_SUFFIX.get(expected_format, ".safetensors")
    found, content = read(data, f"weights{suffix}")
    assert found == expected_format
    assert_same_weights(find(content), samples.weights())


def test_keras_archives_in_archives_with_their_texts(read):
    found, content = read(gzip.compress(samples.keras(samples.weights())))
    assert found == "keras"
    assert_same_weights(content["model"]["layers"], samples.weights())
    assert content["config"] == {"class_name": "Functional", "config": {"layers": []}}
    assert content["metadata"] == {"keras_version": "3.15"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["model.weights.h5", "model.h5"])
def test_weights_of_keras(name, dtype, tmp_path, caplog):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2, dtype=dtype)(inputs))
    save = model.save_weights if "weights" in name else model.save
    save(tmp_path / name)
    content = read_checkpoint(tmp_path / name).content
    leaves = [leaf for leaf in keras.tree.flatten(content) if np.ndim(leaf) == 2]
    kernel = keras.ops.convert_to_numpy(keras.ops.cast(model.weights[0], "float32"))
    np.testing.assert_array_equal(leaves[0], kernel)


# === pickles ===

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=300)
)
KEYS = st.text() | st.integers(-(2**59), 2**59) | st.binary() | st.booleans()
VALUES = st.recursive(
    SCALARS | st.sets(st.integers(0, 9)) | st.frozensets(st.text()),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(KEYS, inner)
        | st.tuples(inner, inner)
        | st.tuples(inner)
        | st.dictionaries(KEYS, inner).map(collections.OrderedDict)
        | st.lists(inner).map(lambda items: [items, items])
    ),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def values():
    found = []

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(value=VALUES)
    def collect(value):
        found.append(value)

    collect()
    return found


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_what_python_reads(protocol, values, read):
    assert read(pickle.dumps(values, protocol)).content == values


ARRAYS = {
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.arange(5, dtype=">i4"),
    "strided": np.arange(12)[::3],
    "empty": np.zeros((0, 3)),
    "scalar": np.array(4.5),
    "booleans": np.array([True, False]),
    "half": np.arange(3, dtype="f2"),
    "complex": np.array([1 + 2j], "c8"),
}


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_kind(protocol, read):
    content = read(pickle.dumps([ARRAYS, ARRAYS], protocol)).content
    for name, array in ARRAYS.items():
        first, second = (arrays[name] for arrays in content)
        assert first is second
        assert first.dtype == array.dtype.newbyteorder("=") and first.dtype.isnative
        np.testing.assert_array_equal(first, array, name)
        assert first.shape == array.shape


@pytest.mark.parametrize("protocol", range(6))
def test_scalars_texts_and_objects_of_numpy(protocol, read):
    objects = np.array([1, "a", None], dtype=object)
    value = [np.float32(0.5), np.array(["ab", "c"]), objects, np.str_("x")]
    found = read(pickle.dumps(value, protocol)).content
    assert found == [0.5, ["ab", "c"], [1, "a", None], "x"]


def test_bfloat16_arrays_become_float32(read):
    array = np.array([1.5, -0.0078125, 3e38]).astype(ml_dtypes.bfloat16)
    found = read(pickle.dumps(array, 4)).content
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, array.astype(np.float32))


def test_settings_and_logs_become_dicts(read):
    history = Call(
        "mmengine.logging.history_buffer.HistoryBuffer",
        (),
        {
            "max_length": 10,
            "mean": Call(
                "__builtin__.getattr",
                (Name("mmengine.logging.history_buffer.HistoryBuffer"), "mean"),
            ),
        },
    )
    value = {
        "args": Call("argparse.Namespace", (), {"lr": 1}),
        "history": history,
        "schedule": Call("collections.Counter", ({30: 1},)),
        "old": Call(
            "copy_reg._reconstructor",
            (Name("yacs.config.CfgNode"), Name("__builtin__.dict"), {"A": 1}),
        ),
        "path": Call("pathlib.PosixPath", ("a", "b")),
        "model": Call("mmengine.config.config.ConfigDict", ({"depth": 50},)),
        "dtype": Call("numpy.dtype", ("f4", 0, 1)),
    }
    assert read(pickled(value)).content == {
        "args": {"lr": 1},
        "history": {
            "max_length": 10,
            "mean": "mmengine.logging.history_buffer.HistoryBuffer.mean",
        },
        "schedule": {30: 1},
        "old": {"A": 1},
        "path": "a/b",
        "model": {"depth": 50},
        "dtype": "f4",
    }


@pytest.mark.parametrize("protocol", range(6))
def test_objects_that_python_pickles(protocol, read):
    import argparse

    value = [
        argparse.Namespace(lr=0.1, steps=[1, 2]),
        types.SimpleNamespace(a=1),
        collections.defaultdict(list, {"a": [1]}),
        collections.Counter("aab"),
        bytearray(b"ab"),
    ]
    assert read(pickle.dumps(value, protocol)).content == [
        {"lr": 0.1, "steps": [1, 2]},
        {"a": 1},
        {"a": [1]},
        {"a": 2, "b": 1},
        b"ab",
    ]


# === torch ===


def test_tensors_are_views_of_their_storage(read):
    """Offset and strides: a transposed slice of a larger storage."""
    whole = np.arange(20, dtype="f4")
    part = samples.tensor("0", whole, offset=5, shape=(2, 3), strides=(1, 2))
    data = samples.torch_zip({"x": whole}, part)
    _, content = read(data)
    np.testing.assert_array_equal(content, [[5, 7, 9], [6, 8, 10]])


def test_parameters_of_early_torch(read):
    """As in the first files of torchvision: `Parameter(tensor)` and its state."""
    array = np.arange(6, dtype="f4")
    part = samples.tensor("0", array, kind="torch._utils._rebuild_tensor")
    state = (True, False, Call("collections.OrderedDict"))
    value = {"fc.bias": Call("torch.nn.parameter.Parameter", (part,), state)}
    samples.legacy({"fc.bias": part})
    _, content = read(samples.torch_legacy({"fc.bias": array}, value))
    np.testing.assert_array_equal(content["fc.bias"], array, strict=True)


@pytest.mark.backends
@pytest.mark.parametrize("new", [True, False])
def test_files_of_torch(new, tmp_path):
    import torch

    network = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 1), torch.nn.BatchNorm3d(4))
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.ones(2, 3, 2, 2, 2)).sum().backward()
    optimizer.step()
    tensors = {
        "bfloat16": torch.linspace(-3, 3, 7).bfloat16(),
        "half": torch.arange(6.0).half().reshape(2, 3).t(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "slice": torch.arange(20)[5:9],
        "expanded": torch.ones(3, 1).expand(3, 4),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3.5),
        "unsigned": torch.ones(3, dtype=torch.uint16),
        "truth": torch.tensor([True, False]),
        "complex": torch.tensor([1 + 2j]),
    }
    rest = {
        "epoch": 3,
        "cfg": "TRAIN: true\n",
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "version": torch.__version__,
    }
    path = tmp_path / "checkpoint.pyth"
    torch.save(
        {
            "model_state": network.state_dict(),
            "optimizer_state": optimizer.state_dict(),
            "tensors": tensors,
            "rest": rest,
        },
        path,
        _use_new_zipfile_serialization=new,
    )
    found, content = read_checkpoint(path)
    assert found == ("torch_zip" if new else "torch_legacy")
    as_numpy = {
        name: (t.float() if name == "bfloat16" else t).detach().numpy()
        for name, t in (tensors | network.state_dict()).items()
    }
    assert_same_weights(content["tensors"] | content["model_state"], as_numpy)
    momentum = optimizer.state_dict()["state"][0]["momentum_buffer"].numpy()
    read_momentum = content["optimizer_state"]["state"][0]["momentum_buffer"]
    np.testing.assert_array_equal(read_momentum, momentum)
    assert content["rest"] == rest | {
        "dtype": "torch.float16",
        "size": (1, 2),
        "device": "cpu",
        "version": str(torch.__version__),
    }


@pytest.mark.backends
@pytest.mark.parametrize("protocol", range(6))
def test_tensors_pickled_without_torch_save(protocol, read):
    import torch

    weight = torch.arange(6.0).reshape(2, 3)
    data = pickle.dumps({"weight": weight.t(), "bias": weight[0]}, protocol)
    content = read(data).content
    np.testing.assert_array_equal(content["weight"], weight.t().numpy())
    np.testing.assert_array_equal(content["bias"], weight[0].numpy())


def test_torch_files_without_checksums(read):
    """As torch writes them after `set_crc32_options(False)`."""
    arrays = samples.weights()
    data = bytearray(samples.torch_zip(arrays))
    for start, place in ((b"PK\3\4", 14), (b"PK\1\2", 16)):
        at = data.find(start)
        while at >= 0:
            data[at + place : at + place + 4] = bytes(4)
            at = data.find(start, at + 1)
    assert_same_weights(read(bytes(data)).content["model_state"], arrays)


@pytest.mark.backends
def test_torch_writes_files_without_checksums(tmp_path):
    import torch

    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"x": torch.arange(5.0)}, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    _, content = read_checkpoint(tmp_path / "x.pt")
    np.testing.assert_array_equal(content["x"], np.arange(5.0))


def test_safetensors_of_the_package(read):
    content = read(safetensors.numpy.save(samples.weights())).content
    assert_same_weights(content, samples.weights())


def test_safetensors_in_bfloat16(read):
    numbers = np.array([1.5, -2.0, 0.1]).astype(ml_dtypes.bfloat16)
    entry = {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}
    header = json.dumps({"x": entry}).encode()
    data = len(header).to_bytes(8, "little") + header + numbers.tobytes()
    _, content = read(data)
    np.testing.assert_array_equal(content["x"], numbers.astype(np.float32))


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580, 0x8B1F])
def test_safetensors_whose_length_looks_like_another_format(length, read):
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    data = length.to_bytes(8, "little") + header.encode().ljust(length)
    checkpoint = read(data + np.float32(1.5).tobytes())
    assert checkpoint == ("safetensors", {"x": 1.5})


def test_hdf5_leading_out_of_the_file_is_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(os.urandom(64))
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["x"] = h5py.ExternalLink("other.h5", "y")
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("x", (16,), "f4", external=[(str(secret), 0, 64)])
    layout = h5py.VirtualLayout((16,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "y", (16,))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    for name in ("link", "raw", "virtual"):
        with pytest.raises(CheckpointError, match="another file"):
            read_checkpoint(tmp_path / f"{name}.h5")
