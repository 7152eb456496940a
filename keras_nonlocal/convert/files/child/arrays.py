"""Arrays from their parts: bytes, the name of a dtype, a shape."""

import numpy as np

NUMBERS = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"),
    *("uint64", "float16", "float32", "float64", "complex64", "complex128"),
)
BFLOAT16 = "bfloat16"  # NumPy has none: read as float32, which holds it exactly


def item_size(name):
    return 2 if name == BFLOAT16 else np.dtype(name).itemsize


def array(data, name, shape=-1, byte_order="<", order="C"):
    """All of `data` in the machine's byte order."""
    stored = {BFLOAT16: "uint16", "bool": "uint8"}.get(name, name)
    flat = np.frombuffer(data, np.dtype(stored).newbyteorder(byte_order))
    if name == BFLOAT16:
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    if name == "bool":  # bytes other than 0 and 1 are not defined
        flat = flat != 0
    native = flat.astype(flat.dtype.newbyteorder("="), copy=False)
    return native.reshape(shape, order=order)
