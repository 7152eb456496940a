"""Plain pickles: Caffe2 blobs of video-nonlocal-net, Detectron and others."""

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files.pickle_names import find_global
from keras_nonlocal.convert.files.pickle_opcodes import PickleReader
from keras_nonlocal.convert.files.plain import plain


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
