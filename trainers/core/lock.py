"""One training at a time in a model directory, one export in a folder of exports."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator

from trainers.core import files
from trainers.core.errors import UserError

LOCK_FILE = ".lock"


@contextlib.contextmanager
def only_one(model_dir: str, doing: str = "training", flag: str = "--model_dir"):
    """Prevents other processes from training in `model_dir` at the same time.

    Args:
        model_dir: The folder, which is created.
        doing: What is done there, for messages.
        flag: That names the folder.

    The lock is released when the process ends, even if it is killed. On file systems
    without locks, remote ones among them, none is held.

    Raises:
        FileError: The directory cannot be written to.
        UserError: Another process trains there; the message names it.
    """
    if files.is_file(model_dir):
        raise UserError(f"{model_dir} is a file: {flag} must be a folder.")
    files.make_folder(model_dir)
    if files.is_remote(model_dir):
        yield
        return
    path = files.join(model_dir, LOCK_FILE)
    with files.errors(path, "cannot be written"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock_alone(descriptor, model_dir, doing, flag)
        yield
    finally:
        os.close(descriptor)


def _lock_alone(descriptor: int, model_dir: str, doing: str, flag: str):
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 20).decode(errors="replace").strip()
        raise UserError(
            f"{f'Process {holder}' if holder else 'Another process'} is {doing} in "
            f"{model_dir}. Wait for it, stop it, or name another {flag}."
        ) from error
    except OSError:
        return
    with contextlib.suppress(OSError):  # a full disk: the lock holds without
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())


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
