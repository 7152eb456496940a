"""Reads the file on stdin and writes what it holds into the scratch folder."""

import contextlib
import importlib
import json
import os
import pathlib
import re
import sys

from . import limits
from .archives import only_checkpoint, read_gzip, read_tar, read_zip
from .errors import ReadError, require
from .hdf5 import read_hdf5
from .safetensors_files import read_safetensors
from .sniff import describe, sniff
from .tf_checkpoint import read_tf_checkpoint
from .torch_files import read_pickle, read_torch_legacy, read_torch_zip
from .tree import write_tree

MAX_NESTING = 4  # a gzip of a tar of a gzip of a pickle
READERS = {
    "pickle": read_pickle,
    "torch_legacy": read_torch_legacy,
    "safetensors": read_safetensors,
    "hdf5": read_hdf5,
}
FORMATS = {"hdf5": "HDF5", "torch_legacy": "torch"}  # in messages
TOO_LARGE = (
    "it unfolds to more than a file of its size can honestly hold, is nested too "
    "deeply, or contains itself. It is damaged or made to exhaust memory."
)


def main(request):
    """Exits with 0 and what it read, or with 2 and an `error` in the scratch folder."""
    scratch = pathlib.Path(request["scratch"])
    try:
        content = read(request, scratch)
        write_tree(content, scratch, request["size"], request["limit"])
        os._exit(0)  # without the libraries' own ends
    except ReadError as error:
        text = str(error)
    except (MemoryError, RecursionError):
        text = TOO_LARGE
    except Exception as error:  # each library has its own
        text = (
            f"its {request.get('format', 'tf.train')} data is damaged or truncated "
            f"({type(error).__name__}: {str(error)[:300]}). Download it again."
        )
    (scratch / "error").write_text(text, "utf-8", "replace")
    os._exit(2)


def read(request, scratch):
    """`(format, content)`, under the limits of the request."""
    limits.leave_network()
    with contextlib.suppress(ImportError):  # its reader explains
        importlib.import_module("safetensors")
    prefix = request["prefix"]
    tensorflow = require("tensorflow", "tensorflow") if prefix else None
    limits.restrict(scratch, request["memory"], request["seconds"], request["limit"])
    if prefix:
        return "tf_checkpoint", read_tf_checkpoint(tensorflow, prefix)
    data = sys.stdin.buffer.read()
    request["format"] = FORMATS.get(sniff(data), sniff(data))
    return read_data(data)


def read_data(data, depth=0):
    """`(format, content)`, unpacked as often as it takes."""
    name = sniff(data)
    if name is None:
        raise ReadError(f"it is {describe(data)}.")
    if depth > MAX_NESTING:
        raise ReadError("it is an archive in an archive without end.")
    if name in READERS:
        return name, READERS[name](data)
    if name == "gzip":
        return read_data(read_gzip(data), depth + 1)
    if name == "tar":
        return read_data(only_checkpoint(read_tar(data), "tar"), depth + 1)
    files = read_zip(data)
    if {"config.json", "model.weights.h5"} <= set(files):
        return "keras", read_keras(files)
    if any(re.fullmatch(r"[^/]*/constants.pkl", name) for name in files):
        raise ReadError(
            "it is a TorchScript program, not weights. Load it with PyTorch and save "
            "`model.state_dict()`."
        )
    pickles = [name for name in files if re.fullmatch(r"([^/]*/)?data.pkl", name)]
    if len(pickles) == 1:
        return "torch_zip", read_torch_zip(files, pickles[0].removesuffix("data.pkl"))
    return read_data(only_checkpoint(files, "zip"), depth + 1)


def read_keras(files):
    """The weights by the names of the layers, the config, and the metadata."""
    return {
        "model": read_hdf5(files["model.weights.h5"]),
        "config": json.loads(files["config.json"]),
        "metadata": json.loads(files.get("metadata.json", b"{}")),
    }
