"""One training at a time in a model directory, one export in a folder of exports."""

import contextlib
import fcntl
import os
import pathlib
import sys
from collections.abc import Iterator

from trainers.core import files
from trainers.core.errors import UserError

LOCK_FILE = ".lock"


@contextlib.contextmanager
def only_one(model_dir):
    """Prevents other processes from training in `model_dir` at the same time.

    The lock is released when the process ends, even if it is killed. On file systems
    without locks none is held.

    Raises:
        UserError: Another process trains there; the message names it.
    """
    path = pathlib.Path(model_dir, LOCK_FILE)
    if path.parent.is_file():
        raise UserError(f"{model_dir} is a file: --model_dir must be a folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f"Process {file.read().strip() or '?'} is training in {model_dir}. "
                "Wait for it, stop it, or train in another --model_dir."
            ) from error
        except OSError:
            yield
            return
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextlib.contextmanager
def in_turn(folder: str) -> Iterator[bool]:
    """Waits until no other process is in this context of the same folder.

    The folder itself is locked: no file is made.

    Yields:
        Whether it is locked; False on file systems without locks.
    """
    if files.is_remote(folder):
        yield False
        return
    with files.errors(folder, "cannot be opened"):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _lock(descriptor, folder)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: str) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"Waiting for another process to write to {folder}", file=sys.stderr)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False
    return True
