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
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import read_checkpoint
from keras_nonlocal.convert.files.budget import Budget
from keras_nonlocal.convert.files.pickles import read_pickle
from tests.convert.files import samples
from tests.convert.files.pickle_writer import Call, Name, pickled

SAMPLES = samples.all_formats()


def read(data, path):
    path.write_bytes(data)
    return read_checkpoint(path)


def assert_same_weights(found, expected):
    assert set(found) >= set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_content_decides_and_not_the_suffix(sample, suffix, tmp_path):
    data, expected_format, find = SAMPLES[sample]
    found, content = read(data, tmp_path / f"weights{suffix}")
    assert found == expected_format
    assert_same_weights(find(content), samples.weights())


def test_keras_archive_and_tf_checkpoint_are_named(tmp_path):
    archive = samples.zipped({"config.json": b"{}", "model.weights.h5": b""})
    path = tmp_path / "model.bin"
    assert read(archive, path) == ("keras", str(path))
    (tmp_path / "ckpt-1.index").write_bytes(
        b"\0" * 40 + bytes.fromhex("57fb808b247547db")
    )
    prefix = tmp_path / "ckpt-1"
    shard = tmp_path / "ckpt-1.data-00000-of-00001"
    shard.write_bytes(bytes(9))
    for path in (prefix, tmp_path / "ckpt-1.index", shard):
        assert read_checkpoint(path) == ("tf_checkpoint", str(prefix))
    with pytest.raises(CheckpointError, match="unpack it first"):
        read(gzip.compress(archive), tmp_path / "model.gz")
    renamed = tmp_path / "weights.bin"
    renamed.write_bytes((tmp_path / "ckpt-1.index").read_bytes())
    with pytest.raises(CheckpointError, match="give their prefix"):
        read_checkpoint(renamed)


def test_tf_checkpoints_of_tensorflow_are_named(tmp_path):
    if keras.config.backend() != "tensorflow":
        pytest.skip("writes with TensorFlow")
    import tensorflow as tf

    prefix = tf.train.Checkpoint(x=tf.Variable([1.0])).save(tmp_path / "ckpt")
    assert read_checkpoint(prefix) == ("tf_checkpoint", prefix)
    assert read_checkpoint(f"{prefix}.index") == ("tf_checkpoint", prefix)


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


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(value=VALUES, protocol=st.integers(0, 5))
def test_plain_values_are_what_python_reads(value, protocol):
    data = pickle.dumps(value, protocol)
    assert read_pickle(data, Budget(len(data))) == value


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
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_every_kind(name, protocol):
    data = pickle.dumps([ARRAYS[name]] * 2, protocol)
    first, second = read_pickle(data, Budget(len(data)))
    assert first is second
    assert first.dtype.isnative
    np.testing.assert_array_equal(first, ARRAYS[name])
    assert first.shape == ARRAYS[name].shape


@pytest.mark.parametrize("protocol", range(6))
def test_scalars_texts_and_objects_of_numpy(protocol):
    objects = np.array([1, "a", None], dtype=object)
    value = [np.float32(0.5), np.array(["ab", "c"]), objects, np.str_("x")]
    data = pickle.dumps(value, protocol)
    found = read_pickle(data, Budget(len(data)))
    assert found == [0.5, ["ab", "c"], [1, "a", None], "x"]


def test_bfloat16_arrays_become_float32():
    array = np.array([1.5, -0.0078125, 3e38]).astype(ml_dtypes.bfloat16)
    data = pickle.dumps(array, 4)
    found = read_pickle(data, Budget(len(data)))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, array.astype(np.float32))


def test_settings_and_logs_become_dicts():
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
    data = pickled(value)
    assert read_pickle(data, Budget(len(data))) == {
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
def test_objects_that_python_pickles(protocol):
    import argparse

    value = [
        argparse.Namespace(lr=0.1, steps=[1, 2]),
        types.SimpleNamespace(a=1),
        collections.defaultdict(list, {"a": [1]}),
        collections.Counter("aab"),
        bytearray(b"ab"),
    ]
    data = pickle.dumps(value, protocol)
    assert read_pickle(data, Budget(len(data))) == [
        {"lr": 0.1, "steps": [1, 2]},
        {"a": 1},
        {"a": [1]},
        {"a": 2, "b": 1},
        b"ab",
    ]


# === torch ===


def test_tensors_are_views_of_their_storage():
    """Offset and strides: a transposed slice of a larger storage."""
    whole = np.arange(20, dtype="f4")
    part = samples.tensor("0", whole, offset=5, shape=(2, 3), strides=(1, 2))
    data = samples.torch_zip({"x": whole}, part)
    _, content = read_bytes(data)
    np.testing.assert_array_equal(content, [[5, 7, 9], [6, 8, 10]])


def read_bytes(data):
    from keras_nonlocal.convert.files.checkpoint import read_data

    return read_data(data, Budget(len(data)))


def test_parameters_of_early_torch():
    """As in the first files of torchvision: `Parameter(tensor)` and its state."""
    array = np.arange(6, dtype="f4")
    part = samples.tensor("0", array, kind="torch._utils._rebuild_tensor")
    state = (True, False, Call("collections.OrderedDict"))
    value = {"fc.bias": Call("torch.nn.parameter.Parameter", (part,), state)}
    samples.legacy({"fc.bias": part})
    _, content = read_bytes(samples.torch_legacy({"fc.bias": array}, value))
    np.testing.assert_array_equal(content["fc.bias"], array, strict=True)


@pytest.mark.parametrize("new", [True, False])
def test_files_of_torch(new, tmp_path):
    torch = pytest.importorskip("torch")
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


@pytest.mark.parametrize("protocol", range(6))
def test_tensors_pickled_without_torch_save(protocol):
    torch = pytest.importorskip("torch")
    weight = torch.arange(6.0).reshape(2, 3)
    data = pickle.dumps({"weight": weight.t(), "bias": weight[0]}, protocol)
    content = read_pickle(data, Budget(len(data)))
    np.testing.assert_array_equal(content["weight"], weight.t().numpy())
    np.testing.assert_array_equal(content["bias"], weight[0].numpy())


def test_torch_files_without_checksums(tmp_path):
    torch = pytest.importorskip("torch")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"x": torch.arange(5.0)}, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    _, content = read_checkpoint(tmp_path / "x.pt")
    np.testing.assert_array_equal(content["x"], np.arange(5.0))


def test_safetensors_of_the_package(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    package.save_file(samples.weights(), tmp_path / "x")
    assert_same_weights(read_checkpoint(tmp_path / "x").content, samples.weights())


def test_safetensors_in_bfloat16(tmp_path):
    numbers = np.array([1.5, -2.0, 0.1]).astype(ml_dtypes.bfloat16)
    entry = {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}
    header = json.dumps({"x": entry}).encode()
    data = len(header).to_bytes(8, "little") + header + numbers.tobytes()
    _, content = read(data, tmp_path / "x")
    np.testing.assert_array_equal(content["x"], numbers.astype(np.float32))


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580, 0x8B1F])
def test_safetensors_whose_length_looks_like_another_format(length, tmp_path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    data = length.to_bytes(8, "little") + header.encode().ljust(length)
    checkpoint = read(data + np.float32(1.5).tobytes(), tmp_path / "x")
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
