"""`.keras` files that say what their network is for."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
import zipfile

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import read_checkpoint

# The file's own description of itself, which Keras writes and does not read.
_METADATA = "metadata.json"
_KEY = "keras_nonlocal"


def check_destination(path, overwrite=False):
    """Raises a `CheckpointError` if a `.keras` file cannot be written to `path`."""
    path = pathlib.Path(path)
    if path.suffix != ".keras":
        raise CheckpointError(f"Cannot write {str(path)!r}: its name is not *.keras.")
    if path.is_dir():
        raise CheckpointError(f"Cannot write {str(path)!r}: it is a folder.")
    if path.exists() and not overwrite:
        raise CheckpointError(
            f"Cannot write {str(path)!r}: it exists. Choose another name, or overwrite."
        )
    with _scratch(path):
        pass


def write_keras_file(model, path, metadata, overwrite=False, check=None):
    """Saves a model with a description; the file is there complete or not at all.

    The description lies in the file's `metadata.json`, under `"keras_nonlocal"`:
    `keras.models.load_model` takes no notice of it, and saving the loaded model
    again leaves it out.

    Args:
        model: `keras.Model`.
        path: The file, `*.keras`.
        metadata: Dict, for JSON.
        overwrite: Replace what is there.
        check: Called with the path of the file before it gets its name; what it
            raises leaves nothing behind.

    Raises:
        CheckpointError: It cannot be written; the message says why.

    Example:
    >>> write_keras_file(C2D(14, 2, width=8), "a.keras", {"class_names": ["x", "y"]})
    >>> read_metadata("a.keras")
    {'class_names': ['x', 'y']}
    """
    path = pathlib.Path(path)
    check_destination(path, overwrite)
    with _scratch(path) as folder:
        saved, described = folder / "saved.keras", folder / "described.keras"
        with _explained(path):
            model.save(saved)
            _describe(saved, described, metadata)
            saved.unlink()
        if check is not None:
            check(described)
        check_destination(path, overwrite)  # some time has gone by
        with _explained(path):
            os.replace(described, path)


def read_metadata(path):
    """What `write_keras_file` wrote beside the weights; `{}` for other files.

    Raises:
        CheckpointError: Not a `.keras` file, or damaged.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.format != "keras":
        raise CheckpointError(f"Cannot read {str(path)!r}: it is not a .keras file.")
    metadata = checkpoint.content["metadata"]
    if not isinstance(metadata, dict):
        raise CheckpointError(
            f"Cannot read {str(path)!r}: its metadata.json holds no dict."
        )
    return metadata.get(_KEY, {})


@contextlib.contextmanager
def _scratch(path):
    """A folder beside `path`, so that a rename is all that remains."""
    with contextlib.ExitStack() as stack:
        with _explained(path):
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(
                    prefix=f".{path.stem}-",
                    dir=path.parent,
                    ignore_cleanup_errors=True,
                )
            )
        yield pathlib.Path(folder)


@contextlib.contextmanager
def _explained(path):
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"Cannot write {str(path)!r}: {reason}.") from error


def _describe(saved, described, metadata):
    """Copies a `.keras` file, with more in its description."""
    with (
        zipfile.ZipFile(saved) as old,
        open(described, "wb") as file,
    ):
        with zipfile.ZipFile(file, "w") as new:
            for info in old.infolist():
                with old.open(info) as source, new.open(info, "w") as target:
                    if info.filename == _METADATA:
                        known = json.load(source) | {_KEY: metadata}
                        target.write(json.dumps(known, indent=2).encode())
                    else:
                        shutil.copyfileobj(source, target, 2**20)
        file.flush()
        os.fsync(file.fileno())
