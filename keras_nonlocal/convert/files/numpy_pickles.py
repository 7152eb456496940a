"""What pickles of NumPy arrays, dtypes and scalars name, in NumPy 1 and 2."""

import math
import re

import numpy as np

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files.arrays import (
    BFLOAT16,
    NUMBERS,
    array_from_bytes,
    check_shape,
)
from keras_nonlocal.convert.files.budget import OBJECT
from keras_nonlocal.convert.files.pickle_machine import Global


class PickledDtype:
    """A dtype in the making: `numpy.dtype(code)`, then its state."""

    def __init__(self, budget, code, *_):
        code = code.name.removeprefix("ml_dtypes.") if is_global(code) else code
        code = "b1" if code == "?" else code
        if not isinstance(code, str):
            raise CheckpointError("its pickle has a dtype without a name.")
        if code not in (*NUMBERS, BFLOAT16) and not re.fullmatch(
            r"O\d?|[SU]\d{1,9}", code
        ):
            raise CheckpointError(
                f"it holds an array of dtype {code[:40]!r}; only numbers, booleans and "
                "texts are read."
            )
        self.code = code
        self.byte_order = "="

    def resolve(self, budget):
        """A dtype among the content: its name."""
        return self.code

    def build(self, state, budget):
        self.byte_order = state[1] if state[1] in ("<", ">", "=", "|") else "="


class PickledArray:
    """An array in the making: `_reconstruct(...)`, then its state."""

    def __init__(self, budget, *_):
        self.parts = None

    def build(self, state, budget):
        shape, dtype, is_fortran, data = state[-4:]  # first a version, if any
        self.parts = shape, dtype, "F" if is_fortran else "C", data

    def resolve(self, budget):
        """The array; a list where it holds texts or objects."""
        if self.parts is None:
            raise CheckpointError("its pickle leaves an array empty: it is damaged.")
        shape, dtype, order, data = self.parts
        if not isinstance(dtype, PickledDtype):
            raise CheckpointError("its pickle has an array without a dtype.")
        if dtype.code.startswith("O"):
            return data if isinstance(data, list) else []
        data = as_bytes(data, budget)
        if dtype.code[0] in "SU":
            return texts(data, dtype, shape, budget)
        return array_from_bytes(
            data, dtype.code, shape, budget, dtype.byte_order, order
        )


class PickledScalar(PickledArray):
    """`scalar(dtype, bytes)`: resolved to a Python number."""

    def __init__(self, budget, dtype, data=b""):
        self.parts = (), dtype, "C", data

    def resolve(self, budget):
        value = super().resolve(budget)
        return value.item() if isinstance(value, np.ndarray) else value


def frombuffer(budget, data, dtype, shape, order="C"):
    """`numpy.core.numeric._frombuffer`, which protocol 5 uses."""
    array = PickledArray(budget)
    array.parts = shape, dtype, "F" if order == "F" else "C", data
    return array


def is_global(value):
    return isinstance(value, Global)


def as_bytes(data, budget):
    """Array data; Python 2's str comes as text with one character for one byte."""
    if isinstance(data, str):
        budget.charge(len(data), "an array")
        return data.encode("latin-1")
    if isinstance(data, bytes):
        return data
    raise CheckpointError(f"an array's data is a {type(data).__name__}, not bytes.")


def texts(data, dtype, shape, budget):
    array_dtype = np.dtype(dtype.code).newbyteorder(dtype.byte_order)
    shape = check_shape(shape)
    # Texts may be empty, and so may the lists of an axis of length 0.
    values = math.prod(max(n, 1) for n in shape) * max(len(shape), 1)
    budget.charge(values * (OBJECT + array_dtype.itemsize), "texts")
    return np.ndarray(shape, array_dtype, data).tolist()


def both_spellings(module, name, call):
    """`numpy.core` became `numpy._core` in NumPy 2."""
    return {(f"numpy.{core}.{module}", name): call for core in ("core", "_core")}


NAMES = {
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): PickledDtype,
    ("ml_dtypes", BFLOAT16): None,
    **both_spellings("multiarray", "_reconstruct", PickledArray),
    **both_spellings("multiarray", "scalar", PickledScalar),
    **both_spellings("numeric", "_frombuffer", frombuffer),
}
