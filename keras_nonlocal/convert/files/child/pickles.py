"""Pickles that run no code: each name in them stands for something of this package.

Python's own machine reads them. What it asks for by name comes from a table of types
that only hold values, and of stand-ins, whose `content` `tree` writes. NumPy's own
functions are not among them: they can be made to take bytes for pointers.
"""

import pickle
import re

import ml_dtypes  # noqa: F401  gives NumPy the dtype bfloat16
import numpy as np

from .errors import ReadError

MAX_PARTS = 100


class Unpickler(pickle.Unpickler):
    """Reads one pickle, and what is kept beside it by `find_storage(identity)`."""

    def __init__(self, file, names, find_storage=None):
        super().__init__(file, encoding="latin1")  # keeps the bytes of Python 2's str
        self.names, self.find_storage = names, find_storage

    def find_class(self, module, name):
        full_name = f"{module}.{name}"
        if full_name not in self.names:
            raise ReadError(
                f"it is refused, because its pickle asks for {full_name[:200]!r}: "
                "code, not weights. Nothing of it was run. If you trust the file, load "
                "it with the program that wrote it and save the weights alone "
                "(`torch.save(model.state_dict(), path)`, or a dict of NumPy arrays)."
            )
        found = self.names[full_name]
        if found is Record:
            return type(full_name, (Record,), {"path": full_name})
        return found if isinstance(found, type) else Name(full_name, found)

    def persistent_load(self, identity):
        if self.find_storage is None:
            raise ReadError(
                "its pickle refers to data kept elsewhere (a persistent id), which a "
                "plain pickle does not have."
            )
        return self.find_storage(identity)


# Each stand-in has a `__setstate__`: without one, a pickle could set its attributes.


class Name:
    """Stands for a function, or for what may be named, but not called."""

    def __init__(self, name, call=None):
        self.content, self.call = name, call

    def __call__(self, *arguments):
        if self.call is None:
            raise ReadError(f"its pickle wants to call {self.content!r}: refused.")
        return self.call(*arguments)

    def __setstate__(self, state):
        raise ReadError(f"its pickle wants to change {self.content!r}: refused.")


class Items(dict):
    """`dict`, `OrderedDict` and `Counter`, of a dict or of pairs."""

    def __setstate__(self, state):
        """Attributes, such as `_metadata` of torch's state dicts: not needed."""


class Record(dict):
    """An object of a harmless class as a dict of its attributes."""

    def __new__(cls, *parts):
        record = super().__new__(cls)
        record.__setstate__(parts)
        return record

    def __init__(self, *parts):
        pass

    def __setstate__(self, state):
        parts = state if isinstance(state, tuple) else (state,)
        if len(parts) > MAX_PARTS:
            raise ReadError("its pickle has an object of too many parts.")
        for part in parts:
            self.update(part if isinstance(part, dict) else {})


class Dtype:
    """`numpy.dtype(code)`, then its state, which has the byte order."""

    CODES = re.compile(r"\?|b1|[iu][1248]|f[248]|c8|c16|bfloat16|[SU][1-9]\d*|O\d?")

    def __init__(self, code, *_):
        code = getattr(code, "content", code).removeprefix("ml_dtypes.")
        if not self.CODES.fullmatch(code):
            raise ReadError(
                f"it holds an array of dtype {code[:40]!r}; only numbers, booleans and "
                "texts are read."
            )
        self.content, self.dtype = code, np.dtype(code)

    def __setstate__(self, state):
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """`_reconstruct(...)`, then its state: without it there is no `content`."""

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        shape, dtype, is_fortran, data = state[-4:]  # first a version, if any
        self.content = make_array(data, dtype, shape, "F" if is_fortran else "C")


def make_array(data, dtype, shape, order="C"):
    """`numpy.core.numeric._frombuffer`; objects are a list, as they are pickled."""
    if dtype.dtype.kind == "O":
        return data if isinstance(data, list) else []
    if isinstance(data, str):  # Python 2: a character for each byte
        data = data.encode("latin-1")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order)


def make_scalar(dtype, data):
    return make_array(data, dtype, ()).item()


TYPES = (bytearray, bytes, float, frozenset, int, list, object, set, tuple)
BUILTINS = {kind.__name__: kind for kind in TYPES} | {
    "dict": Items,
    # Of a class and its method: mmengine's history names its statistics so.
    "getattr": lambda record, name: record.path + "." + name,
}
# Settings and logs that real checkpoints carry beside the weights.
RECORDS = (
    "addict.addict.Dict",
    "argparse.Namespace",
    "fvcore.common.config.CfgNode",
    "iopath.common.config.CfgNode",
    "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.ConfigDict",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "types.SimpleNamespace",
    "yacs.config.CfgNode",
)
NAMES = {
    **dict.fromkeys(RECORDS, Record),
    "_codecs.encode": bytes,  # of a text: how protocols 0-2 of Python 3 write bytes
    "collections.OrderedDict": Items,
    "collections.Counter": Items,
    "collections.defaultdict": lambda factory=None, items=(): Items(items),
    "numpy.ndarray": None,
    "numpy.dtype": Dtype,
    "ml_dtypes.bfloat16": None,
}
for python in ("builtins", "__builtin__"):  # Python 3 and 2
    NAMES |= {f"{python}.{name}": found for name, found in BUILTINS.items()}
for copyreg in ("copyreg", "copy_reg"):  # of protocols 0 and 1
    NAMES[f"{copyreg}._reconstructor"] = lambda kind, base, state: kind(state)
for pathlib in ("pathlib", "pathlib._local"):  # Python 3.13
    for path in ("PosixPath", "WindowsPath"):
        NAMES[f"{pathlib}.{path}"] = lambda *parts: "/".join(parts)
for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
    NAMES[f"{core}.multiarray._reconstruct"] = Array
    NAMES[f"{core}.multiarray.scalar"] = make_scalar
    NAMES[f"{core}.numeric._frombuffer"] = make_array
