"""HDF5 weights, as Keras writes them: nested dicts of arrays."""

import os
import pathlib
import subprocess
import sys

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files.safetensors_files import read_safetensors

HDF5_START = b"\x89HDF\r\n\x1a\n"
PROCESS = pathlib.Path(__file__).with_name("hdf5_process.py")
SECONDS = 60
SECONDS_PER_BYTE = 1e-7


def read_hdf5(data, budget):
    """`{group: {...: array}}`; texts and attributes are left out.

    A process of its own reads it (see `hdf5_process`): the HDF5 library may crash
    or hang on damaged files.

    Args:
        data: Bytes.
        budget: A `Budget`.

    Raises:
        CheckpointError: Damaged, truncated, or pointing outside of the file.
    """
    return nested(read_safetensors(run_process(data, budget), budget))


def run_process(data, budget):
    """What `hdf5_process` makes of `data`."""
    seconds = SECONDS + SECONDS_PER_BYTE * len(data)
    try:
        result = subprocess.run(
            [sys.executable or "python3", "-P", str(PROCESS), str(budget.left)],
            input=data,
            capture_output=True,
            timeout=seconds,
            env=os.environ | environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(
            f"its HDF5 keeps the HDF5 library busy for over {seconds:.0f} seconds: "
            "it is damaged. Download it again."
        ) from error
    if result.returncode:
        reason = result.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        reason = reason[:300] or "it crashes the HDF5 library"
        raise CheckpointError(
            f"its HDF5 is damaged or refused ({reason}). Download it again."
        )
    return result.stdout


def environment():
    """The same packages, and few threads: they count as memory."""
    paths = os.pathsep.join(filter(None, sys.path))
    return {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}


def nested(arrays):
    """`{"a/b": x}` as `{"a": {"b": x}}`."""
    content = {}
    for path, array in arrays.items():
        *groups, name = path.split("/")
        place = content
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = array
    return content
