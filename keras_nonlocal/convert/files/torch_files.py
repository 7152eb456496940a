"""Files of `torch.save`: the zip of today and the pickle stream before 1.6."""

import struct

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files.pickle_opcodes import PickleReader
from keras_nonlocal.convert.files.plain import plain
from keras_nonlocal.convert.files.torch_tensors import (
    Storage,
    find_global,
    item_size,
    storage_code,
)

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x80\x02\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little") + b"."
LEGACY_PROTOCOL = 1001


def read_torch_zip(archive, budget):
    """The content of a zip of `torch.save`.

    Args:
        archive: A `ZipArchive`.
        budget: A `Budget`.

    Raises:
        CheckpointError: Refused, damaged or truncated.
    """
    folder = archive.folder_of("data.pkl")
    order = f"{folder}byteorder"  # there since torch 2.1
    big = order in archive.names() and archive.read(order) == b"big"
    storages = {}

    def find_storage(identity):
        kind, key, _ = storage_identity(identity)
        if key not in storages:
            data = archive.read(f"{folder}data/{key}")
            storages[key] = Storage(storage_code(kind), data, ">" if big else "<")
        return storages[key]

    reader = PickleReader(
        archive.copy(f"{folder}data.pkl"), find_global, budget, find_storage
    )
    return plain(reader.load(), budget)


def storage_identity(identity):
    """`(kind, key, view)` of `("storage", kind, key, device, size, view)`.

    What a pickle gives instead may take for ever to hash or to print.
    """
    fits = isinstance(identity, tuple) and 5 <= len(identity) <= 6
    if not (fits and isinstance(identity[2], str)):
        raise CheckpointError("its pickle names a storage in no known way.")
    return identity[1], identity[2], identity[5] if len(identity) == 6 else None


def read_torch_legacy(data, budget):
    """The content of the pickle stream that torch wrote before 1.6.

    Five pickles (magic number, version, machine, content, keys of the storages),
    then each storage: how many numbers, and the numbers.

    Args:
        data: Bytes.
        budget: A `Budget`.

    Raises:
        CheckpointError: Refused, damaged or truncated.
    """
    return plain(load_legacy(data, budget), budget)


def load_legacy(data, budget):
    """What the stream's fourth pickle builds, its storages filled."""
    storages = {}

    def find_storage(identity):
        kind, key, view = storage_identity(identity)
        if view is not None:
            raise CheckpointError(
                "it has views of storages, as PyTorch before 0.4 wrote them: load "
                "it with PyTorch and save it again."
            )
        return storages.setdefault(key, Storage(storage_code(kind)))

    reader = PickleReader(data, find_global, budget, find_storage)
    magic, protocol, system = reader.load(), reader.load(), reader.load()
    if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
        raise CheckpointError("its head is that of no known torch file.")
    byte_order = "<" if system.get("little_endian", True) else ">"
    value = reader.load()
    for key in reader.load():
        read_storage(reader, storages, key, byte_order)
    return value


def read_storage(reader, storages, key, byte_order):
    """Fills the storage `key` from where `reader` stands."""
    if not isinstance(key, str) or key not in storages:
        raise CheckpointError("it has data that no tensor uses: it is damaged.")
    storage = storages[key]
    (count,) = struct.unpack(f"{byte_order}q", reader.read(8))
    storage.data = reader.read(count * item_size(storage.code))
    storage.byte_order = byte_order


def load_storage(budget, data):
    """`torch.storage._load_from_bytes`: a legacy file that holds one storage."""
    if not isinstance(data, bytes):
        raise CheckpointError("its pickle has a storage that is not bytes.")
    budget.charge(len(data), "a storage")
    storage = load_legacy(data, budget)
    if not isinstance(storage, Storage):
        raise CheckpointError("its pickle has a tensor without a storage.")
    return storage
