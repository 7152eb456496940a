"""HDF5 weights, as Keras writes them: nested dicts of arrays.

Groups that Keras numbers by class, such as `batch_normalization_3`, go by the names
of their layers, which it notes beside. Texts and attributes are left out.
"""

import collections
import io

import numpy as np

from .arrays import BFLOAT16, numbers
from .errors import ReadError, missing

MAX_DEPTH = 90
MEMBER = 256  # bytes charged for every group and array


def read_hdf5(data, allowance):
    """`{group: {...: array}}`."""
    try:
        import h5py
    except ImportError as error:
        raise missing("h5py", "convert") from error
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            return read_group(h5py, file, allowance, "", 0)
    except (ArithmeticError, LookupError, OSError, RuntimeError, ValueError) as error:
        raise ReadError(
            f"its HDF5 is damaged ({type(error).__name__}: {str(error)[:200]}). "
            "Download it again."
        ) from error


def read_group(h5py, group, allowance, prefix, depth):
    if depth > MAX_DEPTH:
        raise ReadError("its HDF5 has groups that are nested without end.")
    names = layer_names(h5py, group) if prefix.endswith("layers/") else {}
    content = {}
    for name in group:
        allowance.charge(MEMBER, "groups")
        path, member = f"{prefix}{name}", open_member(h5py, group, prefix, name)
        if isinstance(member, h5py.Group):
            value = read_group(h5py, member, allowance, f"{path}/", depth + 1)
        elif isinstance(member, h5py.Dataset):
            value = read_dataset(member, path, allowance)
        else:
            value = None
        if value is not None:
            content[names.get(name, name)] = value
    return content


def open_member(h5py, group, prefix, name):
    if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
        raise ReadError(f"{prefix + name!r} in its HDF5 is a link to another file.")
    return group[name]


def read_dataset(dataset, path, allowance):
    """An array; None for texts."""
    if dataset.external or dataset.is_virtual:
        raise ReadError(f"the numbers of {path!r} in its HDF5 lie in another file.")
    dtype = dataset.dtype
    is_bfloat16 = dtype.kind == "V" and dtype.itemsize == 2 and not dtype.names
    if dtype.kind not in "biufc" and not is_bfloat16:
        return None
    allowance.charge(dataset.size * dtype.itemsize, "an array")
    array = np.asarray(dataset[()])
    if is_bfloat16:
        return numbers(array.tobytes(), BFLOAT16).reshape(array.shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def layer_names(h5py, group):
    """Names of the layers in a group by their places, unless two are the same."""
    names = {place: layer_name(h5py, group, place) for place in group}
    counts = collections.Counter([*names.values(), *group])
    return {place: name for place, name in names.items() if name and counts[name] == 1}


def layer_name(h5py, group, place):
    """What Keras notes at `vars`, where a layer's own weights are."""
    if not isinstance(group.get(place, getlink=True), h5py.HardLink):
        return None
    if group.get(place, getclass=True) is not h5py.Group:
        return None
    if not isinstance(group[place].get("vars", getlink=True), h5py.HardLink):
        return None
    name = group[place]["vars"].attrs.get("name")
    return name if isinstance(name, str) and "/" not in name else None
