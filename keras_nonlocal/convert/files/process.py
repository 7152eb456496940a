"""Runs `child` on a file, and reads what it wrote.

The libraries that read files may crash, hang or exhaust memory on damaged ones: a
process can be ended, and limited beforehand.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files.child.tree import read_tree

BASE = 256 * 2**20
PER_BYTE = 20  # a file may unpack to BASE and 20 times its size
SECONDS = 6  # of computing, beyond the imports
BYTES_PER_SECOND = 2 * 10**7
WAIT = 300  # seconds, for a machine that is busy with other things
START = """
import json, sys
request = json.loads(sys.argv[1])
sys.path[:] = request["modules"]
from child.main import main
del sys.path[0]
main(request)
"""
ENVIRONMENT = {  # few threads, which take memory; no GPU, no plugins
    "CUDA_VISIBLE_DEVICES": "",
    "HDF5_PLUGIN_PRELOAD": "::",
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
REFUSED = 2  # the exit code with which an `error` is in the scratch folder
BUSY = "it keeps its reader busy for over {} seconds: it is damaged or made to do so."


def read_in_child(file, size, prefix=None):
    """`(format, content)` of an open file, or of a tf.train checkpoint's prefix."""
    limit = BASE + PER_BYTE * size
    request = {
        "prefix": prefix,
        "size": size,
        "limit": limit,
        "memory": limit if prefix else 2 * limit,  # TensorFlow itself takes 700 MB
        "seconds": SECONDS + size // BYTES_PER_SECOND,
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        code = run_child(request | {"scratch": scratch}, file)
        if code:
            raise CheckpointError(explain(code, pathlib.Path(scratch), request))
        return read_tree(pathlib.Path(scratch))


def run_child(request, file):
    """Runs the process to its end and returns its exit code."""
    here = str(pathlib.Path(__file__).parent)
    modules = [here, *(os.path.abspath(path) for path in sys.path if path)]
    text = json.dumps(request | {"modules": modules})
    seconds, scratch = WAIT + 2 * request["seconds"], request["scratch"]
    with open(os.path.join(scratch, "log"), "wb") as log:
        try:
            return subprocess.run(
                [sys.executable or "python3", "-ISc", START, text],
                stdin=file or subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=os.path.dirname(request["prefix"] or "") or scratch,
                env=os.environ | ENVIRONMENT,
                timeout=seconds,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise CheckpointError(BUSY.format(seconds)) from error


def explain(code, scratch, request):
    """Why the process ended with `code`."""
    if code == REFUSED:
        return read_end(scratch / "error")
    if code == -signal.SIGKILL:
        return (
            "the system ended its reader, most likely for lack of memory. Close other "
            "programs, or use a machine with more."
        )
    if code < 0:
        name = signal.Signals(-code).name
        busy = BUSY.format(request["seconds"])
        crash = f"it crashes the library that reads it ({name}): it is damaged."
        return f"{busy if name == 'SIGXCPU' else crash} Download it again."
    return (
        f"its reader ended with code {code} ({read_end(scratch / 'log')}). Please "
        "report this."
    )


def read_end(path, count=2000):
    """The last bytes of a file, as text."""
    with open(path, "rb") as file:
        file.seek(max(os.path.getsize(path) - count, 0))
        return file.read().decode(errors="replace").strip()
