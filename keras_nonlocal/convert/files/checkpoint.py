"""`read_checkpoint`: one function for every file that weights come in."""

import glob
import os
import pathlib
import re
import stat
import typing

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files.child.sniff import TABLE_END
from keras_nonlocal.convert.files.process import read_in_child


class Checkpoint(typing.NamedTuple):
    """What a file holds.

    Attributes:
        format: `"torch_zip"`, `"torch_legacy"`, `"pickle"`, `"safetensors"`,
            `"hdf5"`, `"keras"` or `"tf_checkpoint"`; of what lies inside, if the
            file is an archive.
        content: Nested dicts, lists and tuples of NumPy arrays, texts and numbers.
            Of a `.keras` file `"model"` (by the names of layers), `"config"` and
            `"metadata"`.
    """

    format: str
    content: typing.Any


def read_checkpoint(path):
    """Reads any checkpoint file, by its content and without running code in it.

    A process of its own reads the file, each format by the library for it, and may
    neither write, nor start processes, nor use the network. It may unpack a file to
    256 MiB and 20 times its own size, and takes a limited time.

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
    try:
        prefix = tf_checkpoint_prefix(path)
        if prefix:
            prefix = pathlib.Path(prefix).absolute()
            files = prefix.parent.glob(f"{glob.escape(prefix.name)}.*")
            size = sum(file.stat().st_size for file in files)
            return Checkpoint(*read_in_child(None, size, str(prefix)))
        with open_regular(path) as file:
            return Checkpoint(*read_in_child(file, os.fstat(file.fileno()).st_size))
    except (CheckpointError, OSError) as error:
        text = str(error).removesuffix(".")
        raise CheckpointError(f"Cannot read {str(path)!r}: {text}.") from error


def tf_checkpoint_prefix(path):
    """The prefix of a `tf.train` checkpoint that `path` names; None if it is none."""
    prefix, files = re.subn(r"\.(index|data-\d+-of-\d+)$", "", str(path))
    index = pathlib.Path(f"{prefix}.index")
    if (path.is_file() and not files) or not index.is_file():
        return None
    with open(index, "rb") as file:
        file.seek(-min(len(TABLE_END), os.path.getsize(index)), os.SEEK_END)
        return prefix if file.read() == TABLE_END else None


def open_regular(path):
    """Opens a file that is neither a folder nor a device."""
    if path.is_dir():
        raise CheckpointError(
            "it is a folder. Name the file in it; for a tf.train checkpoint its "
            "prefix, such as 'folder/ckpt-1'."
        )
    if not path.exists():
        raise CheckpointError("there is no such file.")
    if not stat.S_ISREG(path.stat().st_mode):
        raise CheckpointError("it is not a regular file.")
    return open(path, "rb")
