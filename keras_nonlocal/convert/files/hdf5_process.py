"""Runs as a process of its own: HDF5 on stdin, the same arrays as safetensors out.

The HDF5 library loops for ever or crashes on some damaged files, which no `try`
stops; a process can be ended, and its memory limited. It imports neither Keras nor
this package, so it starts quickly. Groups that Keras numbers by class, such as
`batch_normalization_3`, go by the names of their layers, which it notes beside.

    python hdf5_process.py BYTES < weights.h5 > weights.safetensors
"""

import collections
import io
import json
import sys

import h5py
import numpy as np

MAX_DEPTH = 100
MEMBER = 256  # charged for every group and array
LIBRARIES = 2**31  # address space of Python, NumPy and HDF5 themselves


def main(limit):
    limit_memory(LIBRARIES + 3 * limit)
    data = sys.stdin.buffer.read()
    with h5py.File(io.BytesIO(data), "r") as file:
        write_safetensors(list(Walk(limit).arrays(file, "", 0)), sys.stdout.buffer)


def limit_memory(size):
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    resource.setrlimit(resource.RLIMIT_AS, (size, hard))


class Walk:
    """Goes through all groups, and refuses what would lead out of the file."""

    def __init__(self, limit):
        self.left = limit

    def charge(self, size):
        self.left -= size
        if self.left < 0:
            raise ValueError("it claims more arrays than a file of its size can hold")

    def arrays(self, group, prefix, depth):
        """Yields `(path, dtype name, array)`."""
        if depth > MAX_DEPTH:
            raise ValueError("its groups are nested without end")
        names = layer_names(group) if prefix.endswith("layers/") else {}
        for name in group:
            self.charge(MEMBER)
            path = f"{prefix}{names.get(name, name)}"
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                raise ValueError(f"{path!r} is a link to another file")
            member = group[name]
            if isinstance(member, h5py.Group):
                yield from self.arrays(member, f"{path}/", depth + 1)
            elif isinstance(member, h5py.Dataset):
                yield from self.array(member, path)

    def array(self, dataset, path):
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"the numbers of {path!r} lie in another file")
        kind = dtype_name(dataset.dtype)
        if kind is None:  # a text
            return
        self.charge(dataset.size * dataset.dtype.itemsize)
        array = np.asarray(dataset[()])
        yield path, kind, array.astype(array.dtype.newbyteorder("<"), copy=False)


def layer_names(group):
    """Names of the layers in a group by their places, unless two are the same."""
    names = {place: layer_name(group, place) for place in group}
    counts = collections.Counter([*names.values(), *group])
    return {place: name for place, name in names.items() if name and counts[name] == 1}


def layer_name(group, place):
    """What Keras notes at `vars`, where a layer's own weights are."""
    if not isinstance(group.get(place, getlink=True), h5py.HardLink):
        return None
    if group.get(place, getclass=True) is not h5py.Group:
        return None
    own = group[place].get("vars", getlink=True)
    if not isinstance(own, h5py.HardLink):
        return None
    name = group[place]["vars"].attrs.get("name")
    return name if isinstance(name, str) and "/" not in name else None


def dtype_name(dtype):
    """safetensors' name of the dtype, None for what is no number."""
    kind, bits = dtype.kind, 8 * dtype.itemsize
    if kind == "V" and bits == 16:  # how ml_dtypes' bfloat16 is kept
        return "BF16"
    if kind == "b":
        return "BOOL"
    return f"{kind.upper()}{bits}" if kind in "iuf" else None


def write_safetensors(arrays, file):
    header, end = {}, 0
    for path, kind, array in arrays:
        begin, end = end, end + array.nbytes
        header[path] = {
            "dtype": kind,
            "shape": array.shape,
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    file.write(len(text).to_bytes(8, "little") + text)
    for _, _, array in arrays:
        file.write(array.tobytes())


if __name__ == "__main__":
    try:
        main(limit=int(sys.argv[1]))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
