"""What a file holds as two files: numbers, and a tree in JSON that refers to them.

In the tree, every list is `[kind, ...]`: `["dict", key, value, key, value]`,
`["array", dtype, first byte, *shape]`; texts, numbers and None are themselves.
"""

import base64
import json

import numpy as np

from .errors import ReadError

ALIGNMENT = 64
MAX_DEPTH = 100
MAX_VALUES = 250_000
BYTES_PER_VALUE = 4  # a file of many values has at least these bytes for each
SCALARS = (bool, int, float, type(None))


def write_tree(content, folder, allowance):
    """Writes `content` as the files `numbers` and `tree` of a folder."""
    with open(folder / "numbers", "wb") as file:
        tree, _ = Encoder(file, allowance).encode(content)
    text = json.dumps(tree, ensure_ascii=False)
    (folder / "tree").write_text(text, "utf-8", "surrogatepass")


class Encoder:
    """Encodes values that may share parts, but not contain themselves."""

    def __init__(self, file, allowance):
        self.file = file
        self.allowance = allowance
        self.max_values = MAX_VALUES + allowance.size // BYTES_PER_VALUE
        self.done = {}  # id: (the object, kept alive; encoded; number of its values)
        self.depth = 0

    def encode(self, value):
        """`(encoded, number of values in it)`; what is shared is counted each time."""
        if isinstance(value, SCALARS):
            return value, 1
        if id(value) not in self.done:
            self.done[id(value)] = value, None, 0
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise ReadError("its content is nested too deeply.")
            self.done[id(value)] = value, *self.encode_new(value)
            self.depth -= 1
        _, encoded, count = self.done[id(value)]
        if encoded is None:
            raise ReadError("its content contains itself without end.")
        return encoded, count

    def encode_new(self, value):
        if isinstance(value, str):
            return str(value), 1
        if isinstance(value, bytes | bytearray):
            return ["bytes", base64.b64encode(value).decode()], 1
        if isinstance(value, complex):
            return ["complex", value.real, value.imag], 1
        if isinstance(value, np.ndarray):
            return self.encode_array(value), 1
        if isinstance(value, dict):
            parts = [part for key in value for part in (check_key(key), value[key])]
            return self.encode_all("dict", parts)
        if isinstance(value, set | frozenset):
            return self.encode_all(type(value).__name__, map(check_key, value))
        if isinstance(value, list | tuple):
            return self.encode_all(type(value).__name__, value)
        if isinstance(value, type):  # that a pickle names
            return value.__name__, 1
        if not hasattr(value, "resolve"):
            raise ReadError(f"it holds a {type(value).__name__}, which is not read.")
        return self.encode(value.resolve(self.allowance))

    def encode_all(self, kind, values):
        encoded, total = [kind], 1
        for value in values:
            part, count = self.encode(value)
            encoded.append(part)
            total += count
            if total > self.max_values:
                raise ReadError(
                    f"its content unfolds to more than {self.max_values} values: it "
                    "is made to exhaust memory."
                )
        return encoded, total

    def encode_array(self, array):
        self.allowance.charge(array.nbytes, "an array")
        self.file.write(bytes(-self.file.tell() % ALIGNMENT))
        start = self.file.tell()
        self.file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        return ["array", array.dtype.str, start, *array.shape]


def check_key(key):
    """`key` if its hash is quick and cannot be made to collide with many others."""
    if isinstance(key, str | bytes | float | type(None)) or (
        isinstance(key, int) and abs(key) < 2**60
    ):
        return key
    if isinstance(key, tuple) and len(key) <= 8:
        numbers = sum(isinstance(part, int | float) for part in key)
        # Two numbers can be chosen for any hash; those of texts are secret.
        if numbers <= 1 and not any(isinstance(part, tuple) for part in key):
            return tuple(map(check_key, key))
    raise ReadError(
        f"it has a {type(key).__name__} as the key of a dict or the member of a set; "
        "only texts, numbers and short tuples of texts and at most one number are read."
    )
