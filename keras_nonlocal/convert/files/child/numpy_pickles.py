"""What pickles of NumPy arrays, dtypes and scalars name, in NumPy 1 and 2."""

import re

import numpy as np

from .arrays import BFLOAT16, NUMBERS, array, check_shape
from .errors import ReadError
from .pickles import Function

CODES = {np.dtype(name).str[1:]: name for name in NUMBERS} | {"?": "bool"}
TEXTS = re.compile(r"[SU]\d{1,9}")
TEXT = 256  # bytes charged for each text beside its own


class Dtype:
    """`numpy.dtype(code)`, then its state, which has the byte order."""

    byte_order = "="

    def __init__(self, code, *_):
        if isinstance(code, Function):
            code = code.name.removeprefix("ml_dtypes.")
        if not isinstance(code, str):
            raise ReadError("its pickle has a dtype without a name.")
        if code not in CODES and code != BFLOAT16 and not is_text_or_object(code):
            raise ReadError(
                f"it holds an array of dtype {code[:40]!r}; only numbers, booleans and "
                "texts are read."
            )
        self.code = code

    def __setstate__(self, state):
        self.byte_order = state[1] if state[1] in ("<", ">") else "="

    def resolve(self, allowance):
        return self.code


class Array:
    """`_reconstruct(...)`, then its state."""

    parts = None

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        shape, dtype, is_fortran, data = state[-4:]  # first a version, if any
        self.parts = data, dtype, shape, "F" if is_fortran else "C"

    def resolve(self, allowance):
        """The array; a list where it holds texts or objects."""
        if self.parts is None:
            raise ReadError("its pickle leaves an array empty: it is damaged.")
        data, dtype, shape, order = self.parts
        if not isinstance(dtype, Dtype):
            raise ReadError("its pickle has an array without a dtype.")
        if dtype.code.startswith("O"):
            return data if isinstance(data, list) else []
        if isinstance(data, str):  # Python 2: a character for each byte
            data = data.encode("latin-1")
        if not isinstance(data, bytes | bytearray):
            raise ReadError(f"an array's data is a {type(data).__name__}, not bytes.")
        if TEXTS.fullmatch(dtype.code):
            return texts(data, dtype, shape, allowance)
        name = CODES.get(dtype.code, dtype.code)
        return array(data, name, shape, dtype.byte_order, order)


class Scalar(Array):
    """`scalar(dtype, bytes)`: a number or a text of Python."""

    def __init__(self, dtype, data=b""):
        self.parts = data, dtype, (), "C"

    def resolve(self, allowance):
        value = super().resolve(allowance)
        return value.item() if isinstance(value, np.ndarray) else value


def from_buffer(data, dtype, shape, order="C"):
    """`numpy.core.numeric._frombuffer`, which protocol 5 uses."""
    made = Array()
    made.parts = data, dtype, shape, "F" if order == "F" else "C"
    return made


def is_text_or_object(code):
    return TEXTS.fullmatch(code) or re.fullmatch(r"O\d?", code)


def texts(data, dtype, shape, allowance):
    stored = np.dtype(dtype.code).newbyteorder(dtype.byte_order)
    # Texts may be empty, and so may the lists of an axis of length 0.
    count = 1
    for length in check_shape(shape):
        count *= max(length, 1)
        allowance.charge(count * (TEXT + stored.itemsize), "texts")
    return np.ndarray(shape, stored, data).tolist()


NAMES = {
    "numpy.ndarray": None,
    "numpy.dtype": Dtype,
    "ml_dtypes.bfloat16": None,
} | {
    f"numpy.{core}.{name}": call  # `numpy.core` became `numpy._core` in NumPy 2
    for core in ("core", "_core")
    for name, call in {
        "multiarray._reconstruct": Array,
        "multiarray.scalar": Scalar,
        "numeric._frombuffer": from_buffer,
    }.items()
}
