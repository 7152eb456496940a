"""Arrays from their parts: bytes, the name of a dtype, a shape."""

import math

import numpy as np

from .errors import ReadError

NUMBERS = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"),
    *("uint64", "float16", "float32", "float64", "complex64", "complex128"),
)
BFLOAT16 = "bfloat16"  # NumPy has none: read as float32, which holds it exactly


def item_size(name):
    return 2 if name == BFLOAT16 else np.dtype(name).itemsize


def numbers(data, name, byte_order="<"):
    """All of `data` as an array of one axis, in the machine's byte order."""
    stored = {BFLOAT16: "uint16", "bool": "uint8"}.get(name, name)
    flat = np.frombuffer(data, np.dtype(stored).newbyteorder(byte_order))
    if name == BFLOAT16:
        return (flat.astype(np.uint32) << 16).view(np.float32)
    if name == "bool":  # bytes other than 0 and 1 are not defined
        return flat != 0
    return flat.astype(flat.dtype.newbyteorder("="), copy=False)


def array(data, name, shape, byte_order="<", order="C"):
    """An array of `shape`, which must need exactly `data`."""
    shape = check_shape(shape)
    expected = math.prod(shape) * item_size(name)
    if expected != len(data):
        raise ReadError(
            f"an array of shape {shape} and dtype {name} needs {expected} bytes, the "
            f"file has {len(data)} for it: it is damaged."
        )
    return numbers(data, name, byte_order).reshape(shape, order=order)


def check_shape(shape):
    """`shape` as a tuple of up to 32 integers of at least 0."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if len(shape) > 32 or any(type(n) is not int for n in shape):
        raise ReadError(  # not printed: it may hold anything
            "an array's shape is not that of an array (up to 32 integers): it is "
            "damaged."
        )
    if any(n < 0 or n >= 2**63 for n in shape):
        raise ReadError(f"an array has the impossible shape {str(shape)[:200]}.")
    return shape
