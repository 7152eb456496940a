"""HDF5 weights, as Keras writes them: nested dicts of arrays.

Groups that Keras numbers by class, such as `batch_normalization_3`, go by the names
of their layers, which it notes beside. Texts and attributes are left out.
"""

import collections
import io

from .arrays import BFLOAT16, array
from .errors import ReadError, missing

MAX_DEPTH = 90
MEMBER = 256  # bytes charged for every group and array
DAMAGE = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def read_hdf5(data, allowance):
    """`{group: {...: array}}`."""
    try:
        import h5py
    except ImportError as error:
        raise missing("h5py", "convert") from error
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            return read_group(h5py, file, allowance, "", 0)
    except DAMAGE as error:
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
        path, value = f"{prefix}{name}", None
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            raise ReadError(f"{path!r} in its HDF5 is a link to another file.")
        member = group[name]
        if isinstance(member, h5py.Group):
            value = read_group(h5py, member, allowance, f"{path}/", depth + 1)
        elif isinstance(member, h5py.Dataset):
            value = read_dataset(member, path, allowance)
        if value is not None:
            content[names.get(name, name)] = value
    return content


def read_dataset(dataset, path, allowance):
    """An array; None for texts."""
    if dataset.external or dataset.is_virtual:
        raise ReadError(f"the numbers of {path!r} in its HDF5 lie in another file.")
    dtype = dataset.dtype
    is_bfloat16 = dtype.kind == "V" and dtype.itemsize == 2 and not dtype.names
    if dtype.kind not in "biufc" and not is_bfloat16:
        return None
    allowance.charge(dataset.size * dtype.itemsize, "an array")
    read = dataset[...]
    if is_bfloat16:
        return array(read.tobytes(), BFLOAT16, read.shape)
    return read.astype(dtype.newbyteorder("="), copy=False)


def layer_names(h5py, group):
    """Names of the layers in a group by their places, unless two are the same."""
    names = {place: layer_name(h5py, group, place) for place in group}
    counts = collections.Counter([*names.values(), *group])
    return {place: name for place, name in names.items() if name and counts[name] == 1}


def layer_name(h5py, group, place):
    """What Keras notes at `vars`, where a layer's own weights are."""
    for name in (place, "vars"):
        if not (
            isinstance(group, h5py.Group)
            and isinstance(group.get(name, getlink=True), h5py.HardLink)
        ):
            return None
        group = group[name]
    name = group.attrs.get("name")
    return name if isinstance(name, str) and "/" not in name else None
