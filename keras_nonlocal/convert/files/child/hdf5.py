"""HDF5 weights, as Keras writes them: nested dicts of arrays.

Groups that Keras numbers by class, such as `batch_normalization_3`, go by the names
of their layers, which it notes beside. Texts and attributes are left out.
"""

import collections
import io

import h5py

from .errors import ReadError


def read_hdf5(data):
    """`{group: {...: array}}`."""
    with h5py.File(io.BytesIO(data), "r") as file:
        return read_group(file)


def read_group(group):
    content = {}
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            raise ReadError(f"{name!r} in its HDF5 is a link to another file.")
        member, value = group[name], None
        if isinstance(member, h5py.Group):
            value = read_group(member)
        elif isinstance(member, h5py.Dataset):
            value = read_dataset(member)
        if value is not None:
            content[name] = value
    names = layer_names(group) if group.name.endswith("layers") else {}
    return {names.get(place, place): value for place, value in content.items()}


def read_dataset(dataset):
    """An array; None for texts."""
    if dataset.external or dataset.is_virtual:
        raise ReadError(
            f"the numbers of {dataset.name!r} in its HDF5 lie in another file."
        )
    dtype = dataset.dtype
    if dtype.kind == "V" and dtype.itemsize == 2 and not dtype.names:
        return dataset[...].view("bfloat16")
    return dataset[...] if dtype.kind in "biufc" else None


def layer_names(group):
    """What Keras notes at `vars`, where a layer's own weights are; no name twice."""
    names = {}
    for place in group:
        noted = group.get(f"{place}/vars")
        name = None if noted is None else noted.attrs.get("name")
        if isinstance(name, str) and "/" not in name:
            names[place] = name
    counts = collections.Counter([*names.values(), *group])
    return {place: name for place, name in names.items() if counts[name] == 1}
