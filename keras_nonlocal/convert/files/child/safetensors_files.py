"""safetensors, read by the package of that name."""

import numpy as np

from .errors import ReadError, require

DTYPES = {"BF16": "bfloat16", "BOOL": "bool", "C64": "complex64"} | {
    f"{kind[0].upper()}{bits}": f"{kind}{bits}"
    for kind in ("int", "uint", "float")
    for bits in (8, 16, 32, 64)
}


def read_safetensors(data):
    """`{name: array}`."""
    entries = require("safetensors", "convert").deserialize(data)
    return {name: read_array(name, entry) for name, entry in entries}


def read_array(name, entry):
    if entry["dtype"] not in DTYPES:
        raise ReadError(
            f"{name!r} has dtype {entry['dtype']!r}, which is not read; expected one "
            f"of {sorted(DTYPES)}."
        )
    dtype = np.dtype(DTYPES[entry["dtype"]]).newbyteorder("<")
    return np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
