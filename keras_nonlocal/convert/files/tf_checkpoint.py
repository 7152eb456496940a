"""`tf.train` checkpoints, without TensorFlow: an index of names, and the numbers.

The index is a table of sorted keys in blocks, each key written as what it adds to
the one before; its values are protocol buffers that say where in `x.data-*` the
numbers of a variable lie.
"""

import pathlib

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files.arrays import BFLOAT16, array_from_bytes
from keras_nonlocal.convert.files.budget import OBJECT, Budget
from keras_nonlocal.convert.files.crc32c import masked_crc32c

FOOTER, MAGIC = 48, 0xDB4775248B80FB57
MAX_VARINT = 10  # bytes: 64 bits in sevens
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
HEADER = b""  # the key of what is said of the file as a whole
TYPES = {  # tensorflow.DataType
    1: "f4",
    2: "f8",
    3: "i4",
    4: "u1",
    5: "i2",
    6: "i1",
    9: "i8",
    10: "b1",
    14: BFLOAT16,
    19: "f2",
}


def read_tf_checkpoint(prefix):
    """`{path of the variable: array}`, such as `{"model/conv1/kernel": ...}`.

    Args:
        prefix: Of `prefix.index` and `prefix.data-00000-of-00001`.

    Raises:
        CheckpointError: Damaged, truncated, or a file of it is not there.
    """
    index = pathlib.Path(f"{prefix}.index").read_bytes()
    entries = dict(read_table(index))
    num_shards = dict(fields(entries.pop(HEADER, b""))).get(1, 1)
    shards = Shards(prefix, num_shards)
    return {
        variable_path(key): array
        for key, entry in entries.items()
        if (array := read_tensor(key, entry, shards)) is not None
    }


def variable_path(key):
    """`b"model/conv1.Skernel/.ATTRIBUTES/VARIABLE_VALUE"` to `"model/conv1/kernel"`.

    Example:

    >>> variable_path(b"model/conv1.Skernel/.ATTRIBUTES/VARIABLE_VALUE")
    'model/conv1/kernel'
    """
    name = key.decode("utf-8", "replace").removesuffix(VALUE)
    return name.replace(".S", "/").replace("..", ".")


class Shards:
    """The files with the numbers, each read when it is first asked for."""

    def __init__(self, prefix, count):
        self.prefix = prefix
        self.count = count
        self.files = {}

    def read(self, number):
        """`(data, budget)` of one of them."""
        if number not in self.files:
            path = pathlib.Path(f"{self.prefix}.data-{number:05}-of-{self.count:05}")
            if not path.is_file():
                raise CheckpointError(
                    f"its numbers are missing: there is no {path.name!r} beside it."
                )
            data = path.read_bytes()
            self.files[number] = memoryview(data), Budget(len(data))
        return self.files[number]


def read_tensor(key, entry, shards):
    """An array; None for texts, such as the graph of the objects that were saved."""
    known = dict(fields(entry))
    if known.get(1) not in TYPES:
        return None
    data, budget = shards.read(known.get(3, 0))
    begin, size = known.get(4, 0), known.get(5, 0)
    if begin + size > len(data) or 7 in known:
        raise CheckpointError(
            f"the data of this checkpoint is damaged or cut short: "
            f"{variable_path(key)!r} should be at bytes {begin} to {begin + size} of "
            f"{len(data)}. Use another one."
        )
    shape = [dict(fields(x)).get(1, 0) for n, x in fields(known.get(2, b"")) if n == 2]
    numbers = data[begin : begin + size]
    array = array_from_bytes(numbers, TYPES[known[1]], shape, budget)
    if masked_crc32c(numbers) != int.from_bytes(known.get(6, b""), "little"):
        raise CheckpointError(
            f"the data of {variable_path(key)!r} differs from its checksum: it is "
            "damaged. Use another checkpoint."
        )
    return array


# === Table of keys and values ===


def read_table(data):
    """Yields `(key, value)`, both bytes."""
    if len(data) < FOOTER or int.from_bytes(data[-8:], "little") != MAGIC:
        raise CheckpointError("its index is truncated. Use another checkpoint.")
    budget = Budget(len(data))
    _, _, *handle = take_varints(data[-FOOTER:], 0, 4)[0]  # first of an empty block
    for _, place in read_block(data, *handle, budget):
        yield from read_block(data, *take_varints(place, 0, 2)[0], budget)


def read_block(data, start, size, budget):
    """Yields `(key, value)` of one block, whose checksum and type lie behind it."""
    budget.charge(OBJECT + size, "an index")
    block, kind = data[start : start + size], data[start + size : start + size + 1]
    checksum = int.from_bytes(data[start + size + 1 : start + size + 5], "little")
    if kind != b"\0" or masked_crc32c(block + kind) != checksum:
        raise CheckpointError(
            "its index is compressed, or differs from its checksum: it is damaged. "
            "Use another checkpoint."
        )
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")  # places to start at
    key, position = b"", 0
    while position < end:
        (shared, added, length), position = take_varints(block, position, 3)
        value = position + added
        key = key[:shared] + block[position:value]
        budget.charge(OBJECT + len(key), "names")
        position = value + length
        yield key, block[value:position]


def take_varints(data, position, count):
    """`count` numbers, and the position behind them."""
    numbers = []
    for _ in range(count):
        number, start = 0, position
        for byte in data[start : start + MAX_VARINT]:
            number |= (byte & 0x7F) << 7 * (position - start)
            position += 1
            if byte < 0x80:
                break
        else:
            raise CheckpointError("its index has a number without end: it is damaged.")
        numbers.append(number)
    return numbers, position


# === Protocol buffers ===


def fields(message):
    """Yields `(number of the field, int or bytes)`."""
    position = 0
    while position < len(message):
        (tag,), position = take_varints(message, position, 1)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            (value,), position = take_varints(message, position, 1)
        else:
            length = {1: 8, 5: 4}.get(kind)
            if length is None:
                (length,), position = take_varints(message, position, 1)
            value = message[position : position + length]
            position += length
        yield number, value
