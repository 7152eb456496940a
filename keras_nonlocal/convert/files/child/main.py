"""Reads the file on stdin and writes what it holds into the scratch folder."""

import contextlib
import importlib
import json
import os
import pathlib
import re
import struct
import sys

from . import limits
from .archives import Zip, read_gzip, read_tar
from .errors import Allowance, ReadError
from .hdf5 import read_hdf5
from .safetensors_files import read_safetensors
from .sniff import describe, sniff
from .tf_checkpoint import import_tensorflow, read_tf_checkpoint
from .torch_files import read_pickle, read_torch_legacy, read_torch_zip
from .tree import write_tree

MAX_NESTING = 4  # a gzip of a tar of a gzip of a pickle
JSON = 30  # bytes of memory that a byte of JSON, such as `[],[],[]`, can take
READERS = {
    "pickle": read_pickle,
    "torch_legacy": read_torch_legacy,
    "safetensors": read_safetensors,
    "hdf5": read_hdf5,
}
# What damaged bytes make NumPy, pickle, zipfile and json raise.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def main(request):
    """Exits with 0 and a `tree`, or with 2 and an `error` in the scratch folder.

    Args:
        request: Dict of `scratch`; `size` of the file and the `limit` that it may
            unpack to, `memory` and `seconds`; `prefix` of a tf.train checkpoint, None
            for all other files.
    """
    scratch = pathlib.Path(request["scratch"])
    try:
        read(request, scratch)
    except Exception as error:
        (scratch / "error").write_text(explain(error), "utf-8", "replace")
        os._exit(2)
    os._exit(0)  # without the libraries' own ends


def read(request, scratch):
    limits.leave_network()
    prefix, size, limit = request["prefix"], request["size"], request["limit"]
    for name in ("h5py", "safetensors"):
        with contextlib.suppress(ImportError):  # its reader explains
            importlib.import_module(name)
    tf = import_tensorflow() if prefix else None
    limits.restrict(scratch, request["memory"], request["seconds"], limit)
    allowance = Allowance(size, limit)
    if prefix:
        found = "tf_checkpoint", read_tf_checkpoint(tf, prefix, allowance)
    else:
        found = read_data(sys.stdin.buffer.read(), allowance)
    write_tree(found, scratch, allowance)


def explain(error):
    if isinstance(error, ReadError):
        return str(error)
    if isinstance(error, MemoryError):
        return (
            "it takes more memory than a file of its size can honestly need. It is "
            "damaged or made to exhaust memory."
        )
    if isinstance(error, OSError):
        return f"{error}."
    if isinstance(error, DAMAGE):
        return (
            f"it is damaged ({type(error).__name__}: {str(error)[:200]}). Download it "
            "again."
        )
    raise error


def read_data(data, allowance, depth=0):
    """`(format, content)`, unpacked as often as it takes."""
    name = sniff(data)
    if name in READERS:
        return name, READERS[name](data, allowance)
    if depth == MAX_NESTING:
        raise ReadError("it is an archive in an archive without end.")
    if name == "gzip":
        return read_data(read_gzip(data, allowance), allowance, depth + 1)
    if name == "tar":
        return read_only_checkpoint(read_tar(data), "tar", allowance, depth)
    if name == "zip":
        return read_zip(Zip(data, allowance), allowance, depth)
    if name == "tf_index":
        raise ReadError(
            "it is the index of a tf.train checkpoint. Unpack or rename it, so that "
            "'x.index' and 'x.data-...' lie together, and give their prefix 'x'."
        )
    raise ReadError(f"it is {describe(data)}.")


def read_zip(archive, allowance, depth):
    names = archive.names
    if {"config.json", "model.weights.h5"} <= set(names):
        return "keras", read_keras(archive, allowance)
    if any(re.fullmatch(r"[^/]*/constants.pkl", name) for name in names):
        raise ReadError(
            "it is a TorchScript program, not weights. Load it with PyTorch and save "
            "`model.state_dict()`."
        )
    if any(re.fullmatch(r"([^/]*/)?data.pkl", name) for name in names):
        return "torch_zip", read_torch_zip(archive)
    files = {name: archive.read(name) for name in names}
    return read_only_checkpoint(files, "zip", allowance, depth)


def read_keras(archive, allowance):
    """The weights by the names of the layers, the config, and the metadata."""
    parts = {"config": "config.json", "metadata": "metadata.json"}
    return {"model": read_hdf5(archive.read("model.weights.h5"), allowance)} | {
        key: read_json(archive.read(name), allowance) if name in archive.names else {}
        for key, name in parts.items()
    }


def read_json(data, allowance):
    allowance.charge(JSON * len(data), "JSON")
    return json.loads(data)


def read_only_checkpoint(files, archive, allowance, depth):
    """The one checkpoint among an archive's files; macOS adds `._x` for each."""
    found = [
        name
        for name, data in files.items()
        if sniff(data) and not pathlib.PurePosixPath(name).name.startswith("._")
    ]
    if len(found) != 1:
        what = "no checkpoint among its files" if not found else "several checkpoints"
        names = ", ".join(map(repr, (found or list(files))[:10])) or "none at all"
        raise ReadError(
            f"it is a {archive} with {what}: {names}. Unpack it and give the one to "
            "load."
        )
    return read_data(files[found[0]], allowance, depth + 1)
