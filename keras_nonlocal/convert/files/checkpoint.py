"""`read_checkpoint`: one function for every file that weights come in."""

import contextlib
import pathlib
import re
import struct
import typing
import zlib

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files.archives import ZipArchive, read_gzip, read_tar
from keras_nonlocal.convert.files.budget import Budget
from keras_nonlocal.convert.files.hdf5 import read_hdf5
from keras_nonlocal.convert.files.pickles import read_pickle
from keras_nonlocal.convert.files.safetensors_files import read_safetensors
from keras_nonlocal.convert.files.sniff import describe, sniff
from keras_nonlocal.convert.files.torch_files import read_torch_legacy, read_torch_zip

MAX_NESTING = 4  # a gzip of a tar of a gzip of a pickle


# What damaged bytes make NumPy, zlib, json and the readers here raise.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


class Checkpoint(typing.NamedTuple):
    """What a file holds.

    Attributes:
        format: `"torch_zip"`, `"torch_legacy"`, `"pickle"`, `"safetensors"`,
            `"hdf5"`, `"keras"` or `"tf_checkpoint"`; of what lies inside, if the
            file is an archive.
        content: Nested dicts, lists and tuples of NumPy arrays (which may be
            read-only), texts and numbers. For `"keras"` and `"tf_checkpoint"`,
            which Keras and TensorFlow load themselves, the path as text.
    """

    format: str
    content: typing.Any


def read_checkpoint(path):
    """Reads any checkpoint file, by its content and without running code in it.

    A file may unpack to 256 MiB and 20 times its own size, more is refused; the
    memory in use stays below twice that. HDF5 is read by a process of its own.

    Args:
        path: File, or the prefix of a `tf.train` checkpoint.

    Returns:
        A `Checkpoint`.

    Raises:
        CheckpointError: Not a checkpoint, damaged, or refused because its pickle
            asks for code; the message says what to do.

    Example:

    >>> import pickle
    >>> with open("weights.pkl", "wb") as file:
    ...     pickle.dump({"blobs": {"pred_b": np.zeros(400)}}, file)
    >>> format, content = read_checkpoint("weights.pkl")
    >>> format, content["blobs"]["pred_b"].shape
    ('pickle', (400,))
    """
    path = pathlib.Path(path)
    with explained(path):
        prefix = tf_checkpoint_prefix(path)
        if prefix:
            return Checkpoint("tf_checkpoint", prefix)
        data = read_file(path)
        return read_data(data, Budget(len(data)), path)


@contextlib.contextmanager
def explained(path):
    """Everything that a damaged file provokes becomes a `CheckpointError`."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"Cannot read {str(path)!r}: {error}") from error
    except DAMAGE as error:
        raise CheckpointError(
            f"Cannot read {str(path)!r}: it is damaged ({type(error).__name__}: "
            f"{str(error)[:200]}). Download it again."
        ) from error
    except OSError as error:
        raise CheckpointError(f"Cannot read {str(path)!r}: {error}.") from error
    except MemoryError as error:
        raise CheckpointError(
            f"Cannot read {str(path)!r}: it does not fit into memory."
        ) from error


def tf_checkpoint_prefix(path):
    """The prefix of a `tf.train` checkpoint that `path` names; None if it is none."""
    prefix, files = re.subn(r"\.(index|data-\d+-of-\d+)$", "", str(path))
    index = pathlib.Path(f"{prefix}.index")
    if (path.is_file() and not files) or not index.is_file():
        return None
    return prefix if sniff(index.read_bytes()) == "tf_index" else None


def read_file(path):
    if path.is_dir():
        raise CheckpointError(
            "it is a folder. Name the file in it; for a tf.train checkpoint its "
            "prefix, such as 'folder/ckpt-1'."
        )
    if not path.exists():
        raise CheckpointError("there is no such file.")
    if not path.is_file():
        raise CheckpointError("it is not a regular file.")
    return path.read_bytes()


def read_data(data, budget, path=None, depth=0):
    """The `Checkpoint` in `data`, unpacked as often as it takes.

    Args:
        data: Bytes.
        budget: A `Budget`.
        path: Where the data lies; None inside an archive.
        depth: How many archives are around it.
    """
    name = sniff(data)
    if name in READERS:
        return Checkpoint(name, READERS[name](data, budget))
    if depth == MAX_NESTING:
        raise CheckpointError("it is an archive in an archive without end.")
    if name == "gzip":
        return read_data(read_gzip(data, budget), budget, None, depth + 1)
    if name == "tar":
        return read_only_checkpoint(read_tar(data), "tar", budget, depth)
    if name == "zip":
        return read_zip(ZipArchive(data, budget), budget, path, depth)
    if name == "tf_index":
        raise CheckpointError(
            "it is the index of a tf.train checkpoint. Unpack or rename it, so that "
            "'x.index' and 'x.data-...' lie together, and give their prefix 'x'."
        )
    raise CheckpointError(f"it is {describe(data)}.")


def read_zip(archive, budget, path, depth):
    names = archive.names()
    if {"config.json", "model.weights.h5"} <= set(names):
        return read_keras(path)
    if any(re.fullmatch(r"[^/]*/constants.pkl", name) for name in names):
        raise CheckpointError(
            "it is a TorchScript program, not weights. Load it with PyTorch and "
            "save `model.state_dict()`."
        )
    if any(re.fullmatch(r"([^/]*/)?data.pkl", name) for name in names):
        return Checkpoint("torch_zip", read_torch_zip(archive, budget))
    files = {name: archive.copy(name) for name in names}
    return read_only_checkpoint(files, "zip", budget, depth)


def read_keras(path):
    """Keras loads its own archives, from where they lie."""
    if path is None:
        raise CheckpointError("it is an archive of a .keras file: unpack it first.")
    return Checkpoint("keras", str(path))


def read_only_checkpoint(files, archive, budget, depth):
    """The one checkpoint among an archive's files; `._x` are macOS's remarks."""
    found = [
        name
        for name, data in files.items()
        if sniff(data) and not pathlib.PurePosixPath(name).name.startswith("._")
    ]
    if len(found) != 1:
        what = "no checkpoint among its files" if not found else "several checkpoints"
        names = ", ".join(map(repr, (found or list(files))[:10])) or "none at all"
        raise CheckpointError(
            f"it is a {archive} with {what}: {names}. Unpack it and give the one "
            "to load."
        )
    return read_data(files[found[0]], budget, None, depth + 1)


READERS = {
    "pickle": read_pickle,
    "torch_legacy": read_torch_legacy,
    "safetensors": read_safetensors,
    "hdf5": read_hdf5,
}
