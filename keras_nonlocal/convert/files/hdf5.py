"""HDF5 weights, as Keras writes them: nested dicts of arrays."""

import io

import numpy as np

from keras_nonlocal.convert.errors import CheckpointError

HDF5_START = b"\x89HDF\r\n\x1a\n"
MAX_DEPTH = 100
FILTERS = {"1", "2", "3", "lzf"}


def read_hdf5(data, budget):
    """`{group: {...: array}}`; texts and attributes are left out.

    Args:
        data: Bytes.
        budget: A `Budget`.

    Raises:
        CheckpointError: Damaged, truncated, or pointing outside of the file.
    """
    import h5py  # comes with keras; slow to import

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            return read_group(file, budget, 0)
    except (OSError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"its HDF5 is damaged or truncated ({error}). Download it again."
        ) from error


def read_group(group, budget, depth):
    import h5py

    if depth > MAX_DEPTH:
        raise CheckpointError("its groups are nested without end.")
    content = {}
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            raise CheckpointError(f"{name!r} is a link to another file: refused.")
        member = group[name]
        if isinstance(member, h5py.Group):
            content[name] = read_group(member, budget, depth + 1)
        elif isinstance(member, h5py.Dataset) and member.dtype.kind in "biufcV":
            content[name] = read_dataset(member, budget)
    return content


def read_dataset(dataset, budget):
    if dataset.external or dataset.is_virtual:
        raise CheckpointError(f"{dataset.name!r} lies in another file: refused.")
    budget.charge(dataset.size * dataset.dtype.itemsize, "an array")
    array = np.asarray(dataset[()])
    if dataset.attrs.get("dtype") == "bfloat16":
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array
