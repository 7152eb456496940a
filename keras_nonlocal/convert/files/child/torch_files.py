"""Files of `torch.save` (the zip, and the stream before 1.6), and plain pickles."""

import io
import pickle
import struct

import numpy as np

from . import numpy_pickles, pickles
from .arrays import BFLOAT16, NUMBERS, array, item_size
from .errors import ReadError
from .pickles import Function, Unpickler
from .sniff import TORCH_LEGACY

LEGACY_PROTOCOL = 1001
MAX_AXES = 32
STORAGES = {
    "BFloat16Storage": BFLOAT16,
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


class Storage:
    """The numbers that tensors are views of; legacy files hold `data` last."""

    def __init__(self, dtype, data=None, byte_order="<"):
        self.dtype, self.data, self.byte_order = dtype, data, byte_order
        self.read = {}

    def numbers(self, dtype):
        if self.data is None:
            raise ReadError("a tensor's data is missing: it is damaged.")
        if dtype not in self.read:
            whole = len(self.data) - len(self.data) % item_size(dtype)
            data = memoryview(self.data)[:whole]
            self.read[dtype] = array(data, dtype, -1, self.byte_order)
        return self.read[dtype]


class Tensor:
    """A view of a storage, resolved once that has its data."""

    def __init__(self, storage, offset, shape, strides, dtype=None):
        if not isinstance(storage, Storage):
            raise ReadError("its pickle has a tensor without a storage.")
        self.storage, self.dtype = storage, dtype or storage.dtype
        self.offset, self.shape, self.strides = offset, tuple(shape), tuple(strides)
        places = (offset, *self.shape, *self.strides)
        if any(type(n) is not int or not 0 <= n < 2**63 for n in places):
            raise ReadError("a tensor's shape or strides are not sizes: it is damaged.")
        if len(self.shape) != len(self.strides) or len(self.shape) > MAX_AXES:
            raise ReadError("a tensor's strides do not fit its shape: it is damaged.")

    def __setstate__(self, state):
        """Attributes that somebody set on the tensor: not needed."""

    def resolve(self, allowance):
        flat = self.storage.numbers(self.dtype)
        if 0 in self.shape:
            return np.zeros(self.shape, flat.dtype)
        spans = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((n - 1) * stride for n, stride in spans)
        if last >= flat.size:
            raise ReadError(
                f"a tensor of shape {self.shape} reaches number {last} of a storage "
                f"of {flat.size}: it is damaged or truncated."
            )
        strides = [stride * flat.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(
            flat[self.offset :], self.shape, strides, writeable=False
        )


def rebuild_tensor(storage, offset, shape, strides, *_):
    return Tensor(storage, offset, shape, strides)


def rebuild_tensor_v3(storage, offset, shape, strides, grad, hooks, dtype, *_):
    """Dtypes without a storage class of their own, such as uint16."""
    name = dtype.name.removeprefix("torch.") if isinstance(dtype, Function) else None
    if name not in (*NUMBERS, BFLOAT16):
        raise ReadError("its pickle has a tensor of no known dtype.")
    return Tensor(storage, offset, shape, strides, name)


def rebuild_parameter(tensor, *_):
    return tensor


def rebuild_from_type(function, kind, arguments, state):
    """A tensor with attributes, or of a subclass: the tensor alone."""
    is_rebuild = isinstance(function, Function) and function.call in REBUILDS.values()
    if not (is_rebuild and isinstance(arguments, tuple)):
        raise ReadError("its pickle rebuilds a tensor by an unknown function.")
    return function(*arguments)


def not_read(what):
    def refuse(*_):
        raise ReadError(
            f"it holds {what}, which is not read. Save it from PyTorch as dense float "
            "tensors."
        )

    return refuse


def load_storage(data):
    """`torch.storage._load_from_bytes`: `pickle.dump` where `torch.save` was meant."""
    if not isinstance(data, bytes):
        raise ReadError("its pickle has a storage that is not bytes.")
    storage = read_torch_legacy(data)
    if not isinstance(storage, Storage):
        raise ReadError("its pickle has a tensor without a storage.")
    return storage


REBUILDS = {
    "_rebuild_tensor": rebuild_tensor,
    "_rebuild_tensor_v2": rebuild_tensor,
    "_rebuild_tensor_v3": rebuild_tensor_v3,
    "_rebuild_parameter": rebuild_parameter,
    "_rebuild_parameter_with_state": rebuild_parameter,
}
UNREAD = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_qtensor": "a quantised tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without values (device 'meta')",
}
NAMES = {
    **pickles.NAMES,
    **numpy_pickles.NAMES,
    **{f"torch._utils.{name}": call for name, call in REBUILDS.items()},
    **{f"torch._utils.{name}": not_read(what) for name, what in UNREAD.items()},
    **{f"torch.{name}": None for name in (*NUMBERS, BFLOAT16, "Tensor")},
    **{f"torch.{name}": None for name in STORAGES},
    **{f"torch.cuda.{name}": None for name in STORAGES},
    "torch._tensor._rebuild_from_type_v2": rebuild_from_type,
    "torch.Size": tuple,
    "torch.device": pickles.make_path,
    "torch.nn.parameter.Parameter": rebuild_parameter,  # before 0.4
    "torch.storage.UntypedStorage": None,
    "torch.storage._load_from_bytes": load_storage,
    "torch.torch_version.TorchVersion": pickles.Text,
}


def read_pickle(data, allowance):
    """One pickle of protocol 0-5, from Python 2 or 3."""
    file = io.BytesIO(data)
    value = Unpickler(file, NAMES).load()
    if file.read().strip(b"\0\r\n "):
        raise ReadError(
            "it goes on after the end of its pickle: it holds several, or is damaged."
        )
    return value


def read_torch_zip(archive):
    """The content of an `archives.Zip` of `torch.save`."""
    found = [x for x in archive.names if f"/{x}".endswith("/data.pkl")]
    if len(found) != 1:
        raise ReadError(f"its zip has {len(found)} files 'data.pkl', not one.")
    folder, storages = found[0].removesuffix("data.pkl"), {}
    order = f"{folder}byteorder"  # there since torch 2.1
    big = order in archive.names and archive.read(order) == b"big"

    def find_storage(identity):
        kind, key, _ = parts_of(identity)
        if key not in storages:
            data = archive.read(f"{folder}data/{key}")
            storages[key] = Storage(dtype_of(kind), data, ">" if big else "<")
        return storages[key]

    return Unpickler(io.BytesIO(archive.read(found[0])), NAMES, find_storage).load()


def read_torch_legacy(data, allowance=None):
    """The content of the stream that torch wrote before 1.6.

    Five pickles (magic number, version, machine, content, keys of the storages),
    then each storage: how many numbers, and the numbers.
    """
    file, storages = io.BytesIO(data), {}

    def find_storage(identity):
        kind, key, view = parts_of(identity)
        if view is not None:
            raise ReadError(
                "it has views of storages, as PyTorch before 0.4 wrote them: load it "
                "with PyTorch and save it again."
            )
        return storages.setdefault(key, Storage(dtype_of(kind)))

    def load():
        return Unpickler(file, NAMES, find_storage).load()

    magic, protocol, system = load(), load(), load()
    if pickle.dumps(magic, 2)[:-1] != TORCH_LEGACY or protocol != LEGACY_PROTOCOL:
        raise ReadError("its head is that of no known torch file.")
    byte_order = "<" if system.get("little_endian", True) else ">"
    value = load()
    for key in load():
        if not isinstance(key, str) or key not in storages:
            raise ReadError("it has data that no tensor uses: it is damaged.")
        read_storage(file, storages[key], byte_order)
    return value


def read_storage(file, storage, byte_order):
    (count,) = struct.unpack(f"{byte_order}q", file.read(8).ljust(8, b"\xff"))
    size = abs(count) * item_size(storage.dtype)
    storage.data = file.read(size)
    storage.byte_order = byte_order
    if len(storage.data) != size:
        raise ReadError(
            f"it is truncated: a storage needs {size} bytes, the file ends after "
            f"{len(storage.data)}. Download it again."
        )


def parts_of(identity):
    """`(kind, key, view)` of `("storage", kind, key, device, size, view)`.

    What a pickle has instead may take for ever to hash or to print.
    """
    fits = isinstance(identity, tuple) and 5 <= len(identity) <= 6
    if not (fits and isinstance(identity[2], str)):
        raise ReadError("its pickle names a storage in no known way.")
    return identity[1], identity[2], identity[5] if len(identity) == 6 else None


def dtype_of(kind):
    """The dtype of a storage class, such as `torch.FloatStorage`."""
    name = kind.name.rpartition(".")[2] if isinstance(kind, Function) else ""
    if name not in STORAGES:
        raise ReadError("its pickle has a storage of no known type.")
    return STORAGES[name]
