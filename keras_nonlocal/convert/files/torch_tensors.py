"""What torch's pickles name, rebuilt with NumPy: storages, tensors, parameters."""

import math

import numpy as np

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import pickle_names
from keras_nonlocal.convert.files.arrays import (
    BFLOAT16,
    array_from_bytes,
    check_shape,
)
from keras_nonlocal.convert.files.pickle_machine import Global

STORAGES = {
    "BFloat16Storage": BFLOAT16,
    "BoolStorage": "b1",
    "ByteStorage": "u1",
    "CharStorage": "i1",
    "ComplexDoubleStorage": "c16",
    "ComplexFloatStorage": "c8",
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "IntStorage": "i4",
    "LongStorage": "i8",
    "ShortStorage": "i2",
    "UntypedStorage": "u1",
}
DTYPES = {
    "bfloat16": BFLOAT16,
    "bool": "b1",
    "complex64": "c8",
    "complex128": "c16",
    "float16": "f2",
    "float32": "f4",
    "float64": "f8",
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
}


def item_size(code):
    return 2 if code == BFLOAT16 else np.dtype(code).itemsize


class Storage:
    """The numbers that tensors are views of.

    Args:
        code: Dtype code (see `arrays`); the data's type.
        data: Bytes, or None until they are known (legacy files hold them last).
        byte_order: Of the data.
    """

    def __init__(self, code, data=None, byte_order="<"):
        self.code = code
        self.data = data
        self.byte_order = byte_order
        self.arrays = {}

    def array(self, code, budget):
        """All numbers as one array; `code` where a tensor reads another type."""
        if code not in self.arrays:
            if self.data is None:
                raise CheckpointError("a tensor's data is missing: it is damaged.")
            shape = (len(self.data) // item_size(code),)
            self.arrays[code] = array_from_bytes(
                self.data, code, shape, budget, self.byte_order
            )
        return self.arrays[code]


class Tensor:
    """A tensor in the making, resolved once its storage has its data."""

    def __init__(self, storage, offset, shape, strides, code=None):
        if not isinstance(storage, Storage):
            raise CheckpointError("its pickle has a tensor without a storage.")
        self.storage = storage
        self.offset, *self.strides = check_shape((offset, *strides))
        self.shape = check_shape(shape)
        self.code = code or storage.code

    def build(self, state, budget):
        """Attributes that somebody set on the tensor: not needed."""

    def resolve(self, budget):
        """The array: a view of its storage wherever the shape allows."""
        flat = self.storage.array(self.code, budget)
        self.check_bounds(flat)
        budget.charge(math.prod(self.shape) * flat.itemsize, "a tensor")
        if 0 in self.shape:
            return np.zeros(self.shape, flat.dtype)
        strides = [stride * flat.itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(
            flat[self.offset :], self.shape, strides, writeable=False
        )
        return np.ascontiguousarray(view).reshape(self.shape)

    def check_bounds(self, flat):
        if len(self.shape) != len(self.strides):
            raise CheckpointError("a tensor's strides do not fit its shape.")
        if 0 in self.shape:
            return
        spans = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((n - 1) * stride for n, stride in spans)
        if last >= flat.size:
            raise CheckpointError(
                f"a tensor of shape {self.shape} reaches number {last} of a storage "
                f"of {flat.size}: it is damaged or truncated."
            )


def rebuild_tensor(budget, storage, offset, shape, strides, *_):
    return Tensor(storage, offset, shape, strides)


def rebuild_tensor_v3(budget, storage, offset, shape, strides, grad, hooks, dtype, *_):
    """dtypes without a storage class of their own, such as uint16."""
    return Tensor(storage, offset, shape, strides, DTYPES[dtype.name[6:]])


def rebuild_parameter(budget, tensor, *_):
    return tensor


def rebuild_from_type(budget, function, kind, arguments, state):
    """A tensor with attributes, or of a subclass: the tensor alone."""
    if not isinstance(function, Global) or function.call not in REBUILDS.values():
        raise CheckpointError("its pickle rebuilds a tensor by an unknown function.")
    return function.call(budget, *pickle_names.make_tuple(budget, arguments))


def not_read(what):
    def refuse(budget, *_):
        raise CheckpointError(
            f"it holds {what}, which is not read. Save it from PyTorch as dense "
            "float tensors."
        )

    return refuse


REBUILDS = {
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): rebuild_tensor_v3,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): rebuild_parameter,
}
UNREAD = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_qtensor": "a quantised tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without values (device 'meta')",
}
NAMES = (
    pickle_names.NAMES
    | REBUILDS
    | {("torch._utils", name): not_read(what) for name, what in UNREAD.items()}
    | {("torch", name): None for name in DTYPES}
    | {("torch", name): None for name in STORAGES}
    | {("torch.cuda", name): None for name in STORAGES}
    | {
        ("torch._tensor", "_rebuild_from_type_v2"): rebuild_from_type,
        ("torch", "Size"): pickle_names.make_tuple,
        ("torch", "Tensor"): None,
        ("torch", "device"): pickle_names.make_path,
        ("torch.nn.parameter", "Parameter"): rebuild_parameter,  # before 0.4
        ("torch.storage", "UntypedStorage"): None,
        ("torch.torch_version", "TorchVersion"): pickle_names.make_text,
    }
)


def find_global(module, name):
    """The `Global` that stands for what a torch file names."""
    return pickle_names.find_global(module, name, NAMES)


def storage_code(kind):
    """The dtype code of a storage class, such as `torch.FloatStorage`."""
    name = kind.name.rpartition(".")[2] if isinstance(kind, Global) else ""
    if name not in STORAGES:
        raise CheckpointError("its pickle has a storage of no known type.")
    return STORAGES[name]
