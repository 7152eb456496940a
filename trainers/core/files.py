"""Files on local disks and on TensorFlow's file systems: gs://, s3://, ram://, ...

All that a run writes goes through this module: a file appears complete or not at all,
its content reaches the disk before its name does, and an error names the path, the
reason and what to do. Paths are strings: `pathlib` turns gs:// into gs:/.

TensorFlow is imported for remote paths alone, so that a command can check its files
before it spends seconds on that import.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator

from trainers.core.errors import UserError

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PART = re.compile(r"\.(.+)\.[0-9a-f]{16}\.part")  # name of an unfinished file
# TensorFlow's messages: "{{function_node ...}} PATH; No space left on device [Op:X]".
_ADDED = re.compile(r"^(\{\{.*?\}\} )?(\S*/\S*; )?| \[Op:\w+\]$")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


class FileError(UserError):
    """A file or folder cannot be read or written.

    Attributes:
        path: The file.
        reason: Why, in one line.
    """

    def __init__(self, path, reason: str):
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path = os.fspath(path)
        self.reason = reason

    def __reduce__(self):  # to be raised again in another process
        return type(self), (self.path, self.reason)


# === Paths ===


def is_remote(path) -> bool:
    """Whether the path is on a file system of TensorFlow's.

    Example:
    >>> is_remote("gs://bucket/run"), is_remote("clips/12:30.mp4")
    (True, False)
    """
    return _REMOTE.match(os.fspath(path)) is not None


def join(folder, *names: str) -> str:
    """A path in a folder; the last name that is absolute or remote starts anew."""
    path = os.fspath(folder)
    for name in names:
        path = name if is_remote(name) else os.path.join(path, name)
    return path


# === Look ===


def exists(path) -> bool:
    """Whether a file or folder exists at `path`.

    Raises:
        FileError: TensorFlow has no such file system, or cannot reach it.
    """
    if not is_remote(path):
        return os.path.exists(path)
    with errors(path, "cannot be reached"):
        return _gfile().exists(path)


def is_folder(path) -> bool:
    if not is_remote(path):
        return os.path.isdir(path)
    with errors(path, "cannot be reached"):
        return _gfile().isdir(path)


def is_file(path) -> bool:
    return exists(path) and not is_folder(path)


def listdir(path) -> list[str]:
    """Names in a folder, without the slash that gs:// appends to folders.

    Names that are not UTF-8 can neither be printed nor saved: they are left out,
    with a warning.
    """
    with errors(path, "cannot be listed"):
        if is_remote(path):
            return [name.rstrip("/") for name in _gfile().listdir(path)]
        names = os.listdir(path)
    good = [name for name in names if _is_utf8(name)]
    for name in set(names).difference(good):
        logging.warning("Left out %a in %s: its name is not UTF-8.", name, path)
    return good


def list_undecodable(path) -> list[str]:
    """Names in a local folder that `listdir` leaves out, since they are not UTF-8."""
    if is_remote(path):
        return []
    with errors(path, "cannot be listed"):
        return [name for name in os.listdir(path) if not _is_utf8(name)]


def printable(text) -> str:
    """A path or message in which control characters and stray bytes are escaped.

    Example:
    >>> print(printable("a\\x1b[31m\\n.mp4"))
    a\\x1b[31m\\n.mp4
    """
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1]
        for character in os.fspath(text)
    )


def glob(pattern: str) -> list[str]:
    """The files and folders that match a pattern."""
    with errors(pattern, "cannot be listed"):
        return _gfile().glob(pattern)


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


# === Read ===


def read_bytes(path) -> bytes:
    """Reads a file.

    Raises:
        FileError: It cannot be read.
    """
    with errors(path, "cannot be read"):
        if is_remote(path):
            with _gfile().GFile(path, "rb") as file:
                return file.read()
        with open(path, "rb") as file:
            return file.read()


def open_to_read(path):
    """Opens a file of bytes; it has `seek`, `tell`, `read` and `close`.

    Raises:
        FileError: It cannot be opened; remote ones are opened by the first `read`.
    """
    with errors(path, "cannot be read"):
        return _gfile().GFile(path, "rb") if is_remote(path) else open(path, "rb")


def state(path) -> tuple[int, int]:
    """(time of the last change in ns, number of bytes) of a file.

    Raises:
        FileError: There is none.
    """
    with errors(path, "cannot be read"):
        found = _gfile().stat(path) if is_remote(path) else os.stat(path)
    if is_remote(path):
        return found.mtime_nsec, found.length
    return found.st_mtime_ns, found.st_size


def read_text(path) -> str:
    """Reads a UTF-8 text file, with or without a byte order mark.

    Raises:
        FileError: It cannot be read, or is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(path, f"is not a text file in UTF-8 ({error}).") from error


def read_lines(path) -> list[str]:
    """Reads the lines of a UTF-8 text file."""
    return read_text(path).splitlines()


def read_json(path):
    """Reads a JSON file.

    Raises:
        FileError: It cannot be read, is empty or is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        found = f"not JSON ({error})" if text.strip() else "empty"
        raise FileError(path, f"is {found}: the file is damaged.") from error


# === Write ===


def make_folder(path) -> None:
    """Creates a folder, with those that it is in, unless it exists."""
    with errors(path, "cannot be created"):
        if is_remote(path):
            _gfile().makedirs(path)
        else:
            os.makedirs(path, exist_ok=True)


def write_text(path, text: str, durable: bool = True) -> None:
    """Replaces a file in one step, and creates its folder; see `replacing`.

    Raises:
        FileError: It cannot be written; the old file is still there.
    """
    write_bytes(path, text.encode(), durable)


def write_json(path, value) -> None:
    """Replaces a file by a value as indented JSON, in one step."""
    write_text(path, to_json(value) + "\n")


def to_json(value) -> str:
    """A value as indented JSON, in ASCII."""
    return json.dumps(value, indent=2)


def write_bytes(path, content: bytes, durable: bool = True) -> None:
    """Replaces a file in one step, and creates its folder; see `replacing`."""
    folder = os.path.dirname(os.fspath(path))
    if folder:
        make_folder(folder)
    with replacing(path, durable) as part, open_to_write(part) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path, durable: bool = True) -> Iterator[str]:
    """Context that gives a temporary name to write to, renamed to `path` at the end.

    After an error the temporary file is removed, and what was at `path` is kept.

    Args:
        path: The file; its folder exists.
        durable: The content reaches the disk before the name. False is faster, for
            files that can be made again and are checked when they are read.

    Raises:
        FileError: It cannot be written.
    """
    folder, part = os.path.dirname(os.fspath(path)), _part(os.fspath(path))
    try:
        with errors(path, "cannot be written"):
            yield part
            if is_remote(path):
                _gfile().rename(part, path, overwrite=True)
                return
            if durable:
                sync(part)
            os.replace(part, path)
            if durable:
                sync(folder or ".")
    finally:
        remove(part)


@contextlib.contextmanager
def creating_folder(path, last: str) -> Iterator[str]:
    """Context that gives a local folder to fill; it becomes the new folder `path`.

    A local folder appears complete or not at all. Object stores cannot rename
    folders: a remote one is copied file by file, `last` at the end, so that readers
    who look for that file find complete folders only.

    Args:
        path: The folder; must not exist. The folder that it is in does.
        last: Path of a file within it.

    Raises:
        FileError: It cannot be written; nothing is left.
    """
    if is_remote(path):
        with errors(tempfile.gettempdir(), "cannot be written"):
            with tempfile.TemporaryDirectory() as scratch:
                yield scratch
                _upload(scratch, path, last)
        return
    parent, part = os.path.dirname(os.path.abspath(path)), _part(os.path.abspath(path))
    try:
        with errors(path, "cannot be written"):
            os.mkdir(part)
            yield part
            for folder, _, names in os.walk(part):
                for name in names:
                    sync(os.path.join(folder, name))
                sync(folder)
            os.rename(part, path)
            sync(parent)
    finally:
        remove_folder(part)


def _upload(source: str, path: str, last: str) -> None:
    claim = join(path, f".{secrets.token_hex(8)}.part")
    try:
        # Of two processes that begin at the same time, at most one finds itself alone.
        write_text(claim, "")
        if len(listdir(path)) > 1:
            raise FileError(path, "another process has written it. Try again.")
    except BaseException:
        remove(claim)
        raise
    try:
        _copy_files(source, path, last)
        remove(claim)
    except BaseException:
        remove_folder(path)
        raise


def _copy_files(source: str, path: str, last: str) -> None:
    found = [
        os.path.relpath(os.path.join(folder, name), source)
        for folder, _, names in os.walk(source)
        for name in names
    ]
    for name in sorted(found, key=lambda name: (name == last, name)):
        make_folder(join(path, os.path.dirname(name)))
        with errors(join(path, name), "cannot be written"):
            _gfile().copy(os.path.join(source, name), join(path, name))


@contextlib.contextmanager
def scratch_folder(path) -> Iterator[str]:
    """Context that gives a temporary folder beside `path`, on the same file system.

    Raises:
        FileError: It cannot be created.
    """
    part = _part(os.fspath(path))
    try:
        with errors(path, "cannot be written"):
            _gfile().makedirs(part) if is_remote(part) else os.makedirs(part)
        yield part
    finally:
        remove_folder(part)


def move_files(source: str, folder: str, last: str) -> None:
    """Moves the files of a folder to another on the same file system.

    Files of equal names are replaced. The content of all reaches the disk before the
    first is moved, and all others are there before `last` is.

    Raises:
        FileError: One cannot be moved.
    """
    others = [name for name in listdir(source) if name != last]
    with errors(folder, "cannot be written"):
        if is_remote(folder):
            for name in (*others, last):
                _gfile().rename(join(source, name), join(folder, name), overwrite=True)
            return
        for name in (*others, last):
            sync(join(source, name))
        for names in (others, [last]):
            for name in names:
                os.replace(join(source, name), join(folder, name))
            sync(folder)


def sync(path: str) -> None:
    """Waits until a local file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path) -> None:
    """Removes a file, if it exists and can be removed."""
    with contextlib.suppress(OSError, *_remote_errors()):
        _gfile().remove(path) if is_remote(path) else os.remove(path)


def remove_folder(path) -> None:
    """Removes a folder with its content, if it exists and can be removed."""
    with contextlib.suppress(OSError, *_remote_errors()):
        _gfile().rmtree(path) if is_remote(path) else shutil.rmtree(path)


def find_parts(folder) -> dict[str, str]:
    """The unfinished files in a folder: name -> the name that it was to get."""
    if not is_folder(folder):
        return {}
    matches = filter(None, map(_PART.fullmatch, listdir(folder)))
    return {match.group(): match.group(1) for match in matches}


def remove_parts(folder, unused_for: float = 0) -> None:
    """Removes the unfinished files in a folder, which killed runs left.

    Args:
        folder: Where to look; not searched recursively.
        unused_for: Seconds since the last change; above 0 in folders that other
            processes may be writing to.
    """
    for name in find_parts(folder):
        path = join(folder, name)
        with contextlib.suppress(OSError, *_remote_errors()):
            if time.time() - _changed_at(path) >= unused_for:
                remove_folder(path) if is_folder(path) else remove(path)


def _changed_at(path: str) -> float:
    if is_remote(path):
        return _gfile().stat(path).mtime_nsec / 1e9
    return os.stat(path).st_mtime


def _part(path: str) -> str:
    folder, name = os.path.split(path)
    return join(folder, f".{name}.{secrets.token_hex(8)}.part")


def open_to_write(path):
    """Opens a file of bytes, such as that of `replacing`; it has `write`, `flush`."""
    return _gfile().GFile(path, "wb") if is_remote(path) else open(path, "wb")


# === Errors ===


@contextlib.contextmanager
def errors(path, problem: str) -> Iterator[None]:
    """Context in which errors of the file system become a `FileError` of `path`.

    Args:
        path: The file that the user knows.
        problem: Such as "cannot be written".
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (OSError, *_remote_errors())):
            raise
        raise FileError(path, f"{problem} ({reason(error)}).{_fix(error)}") from error


def reason(error: Exception) -> str:
    """What went wrong, in one line, without the path."""
    text = getattr(error, "strerror", None) or getattr(error, "message", None)
    lines = (text or str(error)).strip().splitlines() or [type(error).__name__]
    return _ADDED.sub("", lines[0])


def _fix(error: Exception) -> str:
    text = str(error)
    number = getattr(error, "errno", None)
    if number in _FULL or "No space left" in text or "quota" in text.lower():
        return " Make room on the disk, and run the same command again."
    if number in _REFUSED or "Read-only" in text or "Permission denied" in text:
        return " Name a folder that this process may write to, or change its rights."
    if type(error).__name__ == "UnimplementedError":
        return " TensorFlow has no such file system: use a local disk or gs://."
    return ""


def _remote_errors() -> tuple[type[Exception], ...]:
    """TensorFlow's error of file systems, if TensorFlow has been imported."""
    tensorflow = sys.modules.get("tensorflow")
    found = getattr(getattr(tensorflow, "errors", None), "OpError", None)
    return (found,) if found else ()


def _gfile():
    import tensorflow as tf

    return tf.io.gfile
