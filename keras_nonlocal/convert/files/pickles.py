"""Plain pickles: Caffe2 blobs of video-nonlocal-net, Detectron and others."""

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import pickle_names, torch_tensors
from keras_nonlocal.convert.files.pickle_opcodes import PickleReader
from keras_nonlocal.convert.files.plain import plain
from keras_nonlocal.convert.files.torch_files import load_storage

# `pickle.dump` of tensors, where `torch.save` was meant.
NAMES = torch_tensors.NAMES | {("torch.storage", "_load_from_bytes"): load_storage}


def read_pickle(data, budget):
    """The content of one pickle of protocol 0-5, from Python 2 or 3.

    Args:
        data: Bytes.
        budget: A `Budget`.

    Raises:
        CheckpointError: Refused, damaged or truncated.
    """
    reader = PickleReader(data, find_global, budget)
    value = reader.load()
    if data[reader.position :].strip(b"\0\r\n "):
        raise CheckpointError(
            f"its pickle ends at byte {reader.position} of {len(data)}: it holds "
            "several, or is damaged."
        )
    return plain(value, budget)


def find_global(module, name):
    """The `Global` that stands for what a plain pickle names."""
    return pickle_names.find_global(module, name, NAMES)
