"""What a file holds, on its way out of the process: as `arrays` and as a `tree`.

`arrays` is one `.npy` after another. In the JSON of the tree, a list is `[kind, ...]`:
`["dict", key, value, key, value]`, `["array", place]`; all else is itself.
"""

import base64
import json
import os

import numpy as np

from .errors import ReadError

NUMBERS = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"),
    *("uint64", "float16", "float32", "float64", "complex64", "complex128"),
    "bfloat16",  # NumPy has none: written as float32, which holds it exactly
)
MAX_DEPTH = 100
MAX_VALUES = 250_000
MAX_TEXT, TEXT_PER_BYTE = 2**24, 4
BYTES_PER_VALUE = 4  # a file of many values has at least these bytes for each


def write_tree(content, folder, size, limit):
    """Writes what a file of `size` bytes holds; raises MemoryError beyond `limit`."""
    with open(folder / "arrays", "wb") as file:
        tree = Encoder(file, size, limit).encode(content)
    text = json.dumps(tree, ensure_ascii=False)
    if len(text) > MAX_TEXT + TEXT_PER_BYTE * size:
        raise MemoryError
    (folder / "tree").write_text(text, "utf-8", "surrogatepass")


class Encoder:
    """Makes JSON of values; what is shared among them is written each time."""

    def __init__(self, file, size, limit):
        self.file, self.limit = file, limit
        self.values_left = MAX_VALUES + size // BYTES_PER_VALUE
        self.places = {}  # id: (place among the arrays, the array, which keeps its id)

    def encode(self, value, depth=0):
        self.values_left -= 1
        if self.values_left < 0 or depth > MAX_DEPTH:
            raise MemoryError
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, bytes | bytearray):
            return ["bytes", base64.b64encode(value).decode()]
        if isinstance(value, complex):
            return ["complex", value.real, value.imag]
        if isinstance(value, np.ndarray) and value.dtype.kind in "SU":
            return self.encode(value.tolist() if value.size else [], depth)
        if isinstance(value, np.ndarray):
            return ["array", self.place_of(value)]
        if isinstance(value, type):  # that a pickle names
            return value.__name__
        if hasattr(value, "content"):  # a stand-in of a pickle
            return self.encode(value.content, depth + 1)
        return self.encode_all(value, depth + 1)

    def encode_all(self, values, depth):
        kinds = (dict, list, tuple, set, frozenset)
        kind = next((kind for kind in kinds if isinstance(values, kind)), None)
        if kind is None:
            raise ReadError(f"it holds a {type(values).__name__}, which is not read.")
        if kind in (dict, set, frozenset):
            for key in values:
                check_key(key)
        if kind is dict:
            values = [part for item in values.items() for part in item]
        return [kind.__name__, *(self.encode(value, depth) for value in values)]

    def place_of(self, array):
        if id(array) not in self.places:
            self.places[id(array)] = len(self.places), array
            self.write(array)
        return self.places[id(array)][0]

    def write(self, array):
        if array.dtype.name not in NUMBERS:
            raise ReadError(
                f"it holds an array of dtype {array.dtype.name!r}; only numbers, "
                "booleans and texts are read."
            )
        if self.file.tell() + array.nbytes > self.limit:
            raise MemoryError
        if array.dtype.name == "bfloat16":
            array = array.astype(np.float32)
        native = array.dtype.newbyteorder("=")
        np.save(self.file, array.astype(native, copy=False), allow_pickle=False)


def is_small(number):
    return isinstance(number, int) and abs(number) < 2**60


def check_key(key):
    """Refuses keys of which many can be made that have the same hash."""
    parts = key if isinstance(key, tuple) else [key]
    others = [part for part in parts if not isinstance(part, str | bytes)]
    safe = [part for part in others if isinstance(part, float | None) or is_small(part)]
    if len(others) > 1 or others != safe:
        raise ReadError(
            f"it has a {type(key).__name__} as the key of a dict or the member of a "
            "set; only texts, numbers and tuples of texts and one number are read."
        )


def read_tree(folder):
    """What `write_tree` wrote; the same array is the same object."""
    arrays = []
    with open(folder / "arrays", "rb") as file:
        while file.tell() < os.fstat(file.fileno()).st_size:
            arrays.append(np.load(file, allow_pickle=False))
    kinds = {
        "array": lambda parts: arrays[parts[0]],
        "bytes": lambda parts: base64.b64decode(parts[0]),
        "complex": lambda parts: complex(*parts),
        "dict": lambda parts: dict(zip(parts[::2], parts[1::2], strict=True)),
        **{kind.__name__: kind for kind in (list, tuple, set, frozenset)},
    }

    def decode(value):
        if not isinstance(value, list):
            return value
        return kinds[value[0]]([decode(part) for part in value[1:]])

    return decode(json.loads((folder / "tree").read_text("utf-8", "surrogatepass")))
