"""Stand-ins for the names in pickles of NumPy 1 and 2: arrays, dtypes, scalars."""

import re

import numpy as np

from .arrays import BFLOAT16, NUMBERS, array
from .errors import ReadError
from .pickles import Function

NAMES_OF_CODES = {np.dtype(name).str[1:]: name for name in NUMBERS}
NAMES_OF_CODES |= {"?": "bool", BFLOAT16: BFLOAT16}
TEXTS_AND_OBJECTS = re.compile(r"[SU][1-9]\d{0,8}|O\d?")


class Dtype:
    """`numpy.dtype(code)`, then its state, which has the byte order."""

    byte_order = "="

    def __init__(self, code, *_):
        if isinstance(code, Function):
            code = code.name.removeprefix("ml_dtypes.")
        if not isinstance(code, str):
            raise ReadError("its pickle has a dtype without a name.")
        if code not in NAMES_OF_CODES and not TEXTS_AND_OBJECTS.fullmatch(code):
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
        name = NAMES_OF_CODES.get(dtype.code, dtype.code)
        made = array(data, name, shape, dtype.byte_order, order)
        if made.dtype.kind in "SU":
            return made.tolist() if made.size else []
        return made


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
    made.__setstate__((shape, dtype, order == "F", data))
    return made


NAMES = {"numpy.ndarray": None, "numpy.dtype": Dtype, "ml_dtypes.bfloat16": None}
for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
    NAMES[f"{core}.multiarray._reconstruct"] = Array
    NAMES[f"{core}.multiarray.scalar"] = Scalar
    NAMES[f"{core}.numeric._frombuffer"] = from_buffer
