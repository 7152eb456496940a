"""Arrays from their parts (dtype code, shape, bytes), with every size checked."""

import math

import numpy as np

from keras_nonlocal.convert.errors import CheckpointError

NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
NUMBERS += ("c8", "c16")
BFLOAT16 = "bfloat16"  # NumPy has none: read as float32, which holds it exactly


def check_shape(shape):
    """`shape` as a tuple of ints of at least 0, or a `CheckpointError`."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if len(shape) > 32 or any(type(n) is not int for n in shape):
        raise CheckpointError(  # not printed: it may hold anything
            "an array's shape is not that of an array (up to 32 whole numbers): it "
            "is damaged."
        )
    if any(n < 0 for n in shape):
        raise CheckpointError(f"an array has the impossible shape {shape}.")
    return shape


def array_from_bytes(data, code, shape, budget, byte_order="<", order="C"):
    """An array of `shape` in the machine's byte order, made of exactly `data`.

    Args:
        data: Bytes, or a memoryview of them.
        code: One of `NUMBERS`, or `BFLOAT16`.
        shape: Tuple of ints.
        budget: A `Budget`, charged for the array.
        byte_order: `"<"`, `">"`, or `"|"` and `"="` where it does not matter.
        order: `"C"` or `"F"`.

    Raises:
        CheckpointError: An impossible shape, or not that many bytes.
    """
    shape = check_shape(shape)
    dtype = np.dtype("u2" if code == BFLOAT16 else code).newbyteorder(byte_order)
    expected = math.prod(shape) * dtype.itemsize
    budget.charge(expected, "an array")
    if expected != len(data):
        raise CheckpointError(
            f"an array of shape {shape} and dtype {code} needs {expected} bytes, the "
            f"file has {len(data)} for it: it is damaged."
        )
    flat = np.frombuffer(data, dtype)
    return native(flat, code).reshape(shape, order=order)


def native(array, code):
    """`array` aligned and in the machine's byte order; bfloat16 as float32."""
    if code == BFLOAT16:
        widened = array.astype(np.uint32) << 16
        return widened.view(np.float32)
    if array.dtype == bool:  # a byte other than 0 and 1 would be undefined
        return array.view(np.uint8) != 0
    return np.require(array, array.dtype.newbyteorder("="), "A")
