"""One small checkpoint in every format, written by hand: no torch is needed."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile

import h5py
import numpy as np

from tests.convert.files.pickle_writer import (
    Call,
    Name,
    Persistent,
    pickled,
    python2_array,
    python2_string,
    python2_text_string,
)

STORAGES = {"f4": "torch.FloatStorage", "f8": "torch.DoubleStorage"}
STORAGES["i8"] = "torch.LongStorage"
MAGIC = 0x1950A86A20F9469CFC6C


def weights():
    """Names, as PyTorch's, and numbers."""
    numbers = np.random.default_rng(0).standard_normal((4, 3, 1, 3, 3))
    return {
        "conv.weight": numbers.astype("f4"),
        "bn.running_mean": np.linspace(-1, 1, 4),
        "bn.num_batches_tracked": np.array(7, "i8"),
    }


def tensor(key, array, kind="torch._utils._rebuild_tensor_v2", **changes):
    """What torch writes for a contiguous tensor."""
    storage = STORAGES[array.dtype.str[1:]]
    parts = {
        "storage": ("storage", Name(storage), key, "cpu", max(array.size, 1)),
        "offset": 0,
        "shape": array.shape,
        "strides": tuple(step // array.itemsize for step in array.strides),
    }
    parts |= changes
    identity, *rest = parts.values()
    return Call(
        kind,
        (Persistent(identity), *rest, False, Call("collections.OrderedDict")),
    )


def tensors(arrays, **changes):
    return {
        name: tensor(str(i), array, **changes)
        for i, (name, array) in enumerate(arrays.items())
    }


def torch_zip(arrays, value=None, extra=()):
    """As `torch.save` writes since 1.6."""
    value = {"model_state": tensors(arrays)} if value is None else value
    files = {"data.pkl": pickled(value), "version": b"3\n", "byteorder": b"little"}
    for i, array in enumerate(arrays.values()):
        files[f"data/{i}"] = array.tobytes()
    return zipped(
        {f"archive/{name}": data for name, data in files.items()} | dict(extra)
    )


def torch_legacy(arrays, value=None):
    """As `torch.save` wrote before 1.6: five pickles, then the storages."""
    value = {"model_state": legacy(tensors(arrays))} if value is None else value
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    keys = [str(i) for i in range(len(arrays))]
    parts = [b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."]
    parts += [pickled(part) for part in (1001, system, value, keys)]
    for array in arrays.values():
        parts += [struct.pack("<q", array.size), array.tobytes()]
    return b"".join(parts)


def legacy(calls):
    """Before 1.6 the identity of a storage had a sixth part, its view."""
    for call in calls.values():
        call.arguments[0].identity += (None,)
    return calls


def safetensors(arrays, **changes):
    names = {"f4": "F32", "f8": "F64", "i8": "I64"}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": names[array.dtype.str[1:]],
            "shape": array.shape,
            "data_offsets": [end, end + array.nbytes],
        } | changes
        end += array.nbytes
    text = json.dumps(header).encode()
    data = b"".join(array.tobytes() for array in arrays.values())
    return struct.pack("<Q", len(text)) + text + data


def hdf5(arrays):
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        root.attrs["layer_names"] = ["conv"]
        for name, array in arrays.items():
            root[f"layers/{name}"] = array
        root["layers/note"] = "text"
        root.create_dataset("packed", data=np.zeros((20, 20)), compression="gzip")
    return file.getvalue()


def keras(arrays):
    """As `model.save("x.keras")` writes."""
    return zipped(
        {
            "config.json": b'{"class_name": "Functional", "config": {"layers": []}}',
            "metadata.json": b'{"keras_version": "3.15"}',
            "model.weights.h5": hdf5(arrays),
        }
    )


def python2(arrays, text=python2_string):
    blobs = {name: python2_array(array) for name, array in arrays.items()}
    return pickled({"blobs": blobs}, text)


def python2_protocol0(arrays):
    return python2(arrays, python2_text_string)[2:]


def zipped(files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def tarred(files, mode="w"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def all_formats():
    """`{description: (bytes, format, how to find the weights in the content)}`."""
    arrays = weights()

    def blobs(content):
        return content["blobs"]

    def layers(content):
        return content["layers"]

    def model_state(content):
        return content["model_state"]

    samples = {
        f"pickle {protocol}": (
            pickle.dumps({"blobs": arrays}, protocol),
            "pickle",
            blobs,
        )
        for protocol in range(6)
    }
    samples["python 2"] = python2(arrays), "pickle", blobs
    samples["python 2 protocol 0"] = python2_protocol0(arrays), "pickle", blobs
    samples["torch zip"] = torch_zip(arrays), "torch_zip", model_state
    samples["torch legacy"] = torch_legacy(arrays), "torch_legacy", model_state
    samples["safetensors"] = safetensors(arrays), "safetensors", dict
    samples["keras"] = (
        keras(arrays),
        "keras",
        lambda content: content["model"]["layers"],
    )
    samples["hdf5"] = hdf5(arrays), "hdf5", lambda content: content["layers"]
    blob = samples["python 2"][0]
    samples["gzip"] = gzip.compress(blob, mtime=0), "pickle", blobs
    files = {"zoo/README.txt": b"weights", "zoo/._c2d.pkl": blob, "zoo/c2d.pkl": blob}
    samples["tar"] = tarred(files), "pickle", blobs
    samples["tar.gz"] = (
        gzip.compress(tarred({"../c2d.pth": torch_legacy(arrays)}), mtime=0),
        "torch_legacy",
        model_state,
    )
    samples["zip"] = zipped({"i3d.pkl": blob}), "pickle", blobs
    return samples
