"""safetensors: a length, a JSON header, then the numbers.

Read here and not by the `safetensors` package: its NumPy side has no bfloat16, and
the format's few rules are all checks that this package makes anyway.
"""

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files.arrays import BFLOAT16, array_from_bytes
from keras_nonlocal.convert.files.json_text import read_json

MAX_HEADER = 100 * 10**6  # the format's own limit
DTYPES = {
    "BOOL": "b1",
    "U8": "u1",
    "U16": "u2",
    "U32": "u4",
    "U64": "u8",
    "I8": "i1",
    "I16": "i2",
    "I32": "i4",
    "I64": "i8",
    "F16": "f2",
    "F32": "f4",
    "F64": "f8",
    "C64": "c8",
    "BF16": BFLOAT16,
}


def is_safetensors(data):
    length = int.from_bytes(data[:8], "little")
    return data[8:9] == b"{" and 2 <= length <= MAX_HEADER


def read_safetensors(data, budget):
    """`{name: array}`.

    Args:
        data: Bytes.
        budget: A `Budget`.

    Raises:
        CheckpointError: Damaged or truncated.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    if start > len(data):
        raise CheckpointError(
            f"it is truncated: its header ends at byte {start}, the file at "
            f"{len(data)}. Download it again."
        )
    header = read_json(data[8:start], budget, object_pairs_hook=unique)
    header.pop("__metadata__", None)
    numbers = memoryview(data)[start:]
    check_offsets(header, len(numbers))
    return {
        name: read_array(name, entry, numbers, budget) for name, entry in header.items()
    }


def unique(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CheckpointError("its header has a name twice: it is damaged.")
    return found


def check_offsets(header, size):
    """The arrays must lie one after the other and fill the file."""
    end = 0
    for begin, next_end in sorted(entry["data_offsets"] for entry in header.values()):
        if begin != end or next_end < begin:
            raise CheckpointError(
                "its arrays overlap or leave gaps: it is damaged. Download it again."
            )
        end = next_end
    if end != size:
        raise CheckpointError(
            f"its arrays take {end} bytes, the file has {size} for them: it is "
            "truncated or damaged. Download it again."
        )


def read_array(name, entry, numbers, budget):
    if entry["dtype"] not in DTYPES:
        raise CheckpointError(
            f"{name!r} has dtype {str(entry['dtype'])[:40]!r}, which is not read; "
            f"expected one of {sorted(DTYPES)}."
        )
    begin, end = entry["data_offsets"]
    code = DTYPES[entry["dtype"]]
    return array_from_bytes(numbers[begin:end], code, entry["shape"], budget)
