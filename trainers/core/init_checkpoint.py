"""Finds the weights that `task.init_checkpoint` names."""

import os

from trainers.core import checkpoint_files, files
from trainers.core.classes import CLASS_FILE, read_trained_classes
from trainers.core.errors import UserError

# Of files that hold weights, for advice: what they hold is found by content.
_SUFFIXES = (".keras", ".h5", ".pth", ".pyth", ".pt", ".pkl", ".safetensors")


def find_prefix(path: str) -> str | None:
    """Prefix of the checkpoint of training at `path`; None if it is another file.

    Args:
        path: A model directory, the prefix of a checkpoint, or a file of weights.

    Raises:
        UserError: There is nothing to start from; or it is a remote file that is no
            checkpoint of training. Names the files that could be meant.
    """
    try:
        is_folder, is_file = files.is_folder(path), files.is_file(path)
    except files.FileError as error:
        raise UserError(f"task.init_checkpoint: {error}") from error
    if is_file and files.is_remote(path):
        raise UserError(
            f"task.init_checkpoint is {path}, a file that is not on this machine. "
            "Of remote checkpoints those of tf.train alone can be read, by their "
            "path without `.index`, or a model directory: copy the file to this "
            "machine, and give its path here."
        )
    if is_file:
        return None
    return _find_in(path, files.listdir(path) if is_folder else ())


def _find_in(path: str, names) -> str:
    try:
        return checkpoint_files.find(path)
    except checkpoint_files.DamagedError as error:
        raise UserError(f"task.init_checkpoint: {error}") from error
    except UserError as error:
        weights = [x for x in sorted(names) if x.endswith(_SUFFIXES)][:3]
        found = ", ".join(files.join(path, x) for x in weights)
        raise UserError(
            f"task.init_checkpoint: {error} A file of weights is named itself "
            f"({', '.join(_SUFFIXES)})" + (f": here are {found}." if found else ".")
        ) from error


def read_classes(prefix: str) -> tuple[str, ...]:
    """The class names in the model directory of a checkpoint; empty without them."""
    path = find_beside(prefix, CLASS_FILE)
    return read_trained_classes(path) if path else ()


def find_beside(prefix: str, name: str) -> str | None:
    """Path of a file in the model directory of a checkpoint, if it is there."""
    folder = os.path.dirname(prefix)  # that of the best is within it
    paths = (files.join(x, name) for x in (folder, os.path.dirname(folder)))
    return next(filter(files.is_file, paths), None)
