"""Files of `torch.save` (the zip, and the stream before 1.6), and plain pickles."""

import io
import pickle
import struct
import typing

import numpy as np

from .errors import ReadError
from .pickles import NAMES as NAMES_OF_PYTHON
from .pickles import Unpickler
from .sniff import TORCH_LEGACY
from .tree import NUMBERS

STORAGES = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ShortStorage": "int16",
    "UntypedStorage": "uint8",
}


class Storage(typing.NamedTuple):
    """The bytes that tensors are views of."""

    dtype: np.dtype
    data: typing.Any
    byte_order: str


class Tensor(np.ndarray):
    """A view of a storage."""

    def __setstate__(self, state):
        """Attributes that somebody set on the tensor: not needed."""


def rebuild_tensor(storage, offset, shape, strides, *_, dtype=None):
    dtype = storage.dtype if dtype is None else dtype
    dtype = dtype.newbyteorder(storage.byte_order)
    if 0 in shape:
        return Tensor(shape, dtype)
    spans = zip(shape, strides, strict=True)
    last = offset + sum((n - 1) * stride for n, stride in spans)
    count = len(storage.data) // dtype.itemsize
    if min((offset, *shape, *strides)) < 0 or last >= count:  # NumPy overlooks some
        raise ReadError(
            f"a tensor of shape {shape} from number {offset} to {last} lies outside of "
            f"its storage of {count}: it is damaged or truncated."
        )
    strides = [stride * dtype.itemsize for stride in strides]
    return Tensor(shape, dtype, storage.data, offset * dtype.itemsize, strides)


def rebuild_tensor_v3(storage, offset, shape, strides, grad, hooks, dtype, *_):
    """Dtypes without a storage class of their own, such as uint16."""
    name = dtype.content.removeprefix("torch.")
    if name not in NUMBERS:
        raise ReadError(f"it holds a tensor of dtype {name!r}, which is not read.")
    return rebuild_tensor(storage, offset, shape, strides, dtype=np.dtype(name))


def rebuild_parameter(tensor, *_):
    return tensor


def not_read(what):
    def refuse(*_):
        raise ReadError(
            f"it holds {what}, which is not read. Save it from PyTorch as dense float "
            "tensors."
        )

    return refuse


def read_pickle(data):
    """One pickle of protocol 0-5, from Python 2 or 3."""
    file = io.BytesIO(data)
    value = Unpickler(file, NAMES).load()
    if file.read().strip(b"\0\r\n "):
        raise ReadError(
            "it goes on after the end of its pickle: it holds several, or is damaged."
        )
    return value


def read_torch_zip(files, folder):
    """The content of `{name: bytes}`, as `torch.save` writes them into a zip."""
    is_big = files.get(folder + "byteorder") == b"big"  # there since torch 2.1

    def find_storage(identity):
        _, kind, key, *_ = identity
        data = files[folder + "data/" + key]
        return Storage(dtype_of(kind), data, ">" if is_big else "<")

    return Unpickler(io.BytesIO(files[folder + "data.pkl"]), NAMES, find_storage).load()


def read_torch_legacy(data):
    """The content of the stream that torch wrote before 1.6.

    Five pickles (magic number, version, machine, content, keys of the storages),
    then each storage: how many numbers, and the numbers.
    """
    file, storages = io.BytesIO(data), {}

    def find_storage(identity):
        _, kind, key, _, count, *view = identity
        if any(view):
            raise ReadError(
                "it has views of storages, as PyTorch before 0.4 wrote them: load it "
                "with PyTorch and save it again."
            )
        if key not in storages:
            data = bytearray(count * dtype_of(kind).itemsize)  # filled below
            storages[key] = Storage(dtype_of(kind), data, byte_order)
        return storages[key]

    magic, _, system = (Unpickler(file, NAMES).load() for _ in range(3))
    if pickle.dumps(magic, 2)[:-1] != TORCH_LEGACY:
        raise ReadError("its head is that of no known torch file.")
    byte_order = "<" if system.get("little_endian", True) else ">"
    value = Unpickler(file, NAMES, find_storage).load()
    for key in Unpickler(file, NAMES).load():
        dtype, data, _ = storages[key]
        (count,) = struct.unpack(f"{byte_order}q", file.read(8))
        size = file.readinto(data)
        if not size == len(data) == count * dtype.itemsize:
            raise ReadError(
                f"it is truncated or damaged: a storage needs {len(data)} bytes, the "
                f"file has {size}. Download it again."
            )
    return value


def dtype_of(kind):
    """The dtype of a storage class, such as `torch.FloatStorage`."""
    return np.dtype(STORAGES[kind.content.rpartition(".")[2]])


UTILS = {
    "_rebuild_tensor": rebuild_tensor,
    "_rebuild_tensor_v2": rebuild_tensor,
    "_rebuild_tensor_v3": rebuild_tensor_v3,
    "_rebuild_parameter": rebuild_parameter,
    "_rebuild_parameter_with_state": rebuild_parameter,
    "_rebuild_sparse_tensor": not_read("a sparse tensor"),
    "_rebuild_sparse_csr_tensor": not_read("a sparse tensor"),
    "_rebuild_nested_tensor": not_read("a nested tensor"),
    "_rebuild_qtensor": not_read("a quantised tensor"),
    "_rebuild_meta_tensor_no_storage": not_read("a tensor without values ('meta')"),
}
NAMES = {
    **NAMES_OF_PYTHON,
    **{f"torch._utils.{name}": call for name, call in UTILS.items()},
    **{f"torch.{name}": None for name in (*NUMBERS, *STORAGES, "Tensor")},
    **{f"torch.cuda.{name}": None for name in STORAGES},
    # A tensor with attributes, or of a subclass: the tensor alone.
    "torch._tensor._rebuild_from_type_v2": lambda call, kind, parts, _: call(*parts),
    "torch.Size": tuple,
    "torch.device": lambda kind, index=None: kind,
    "torch.nn.parameter.Parameter": rebuild_parameter,  # before 0.4
    "torch.storage.UntypedStorage": None,
    # Of `pickle.dump` where `torch.save` was meant.
    "torch.storage._load_from_bytes": read_torch_legacy,
    "torch.torch_version.TorchVersion": str,
}
