"""Files: local ones, remote ones (gs://, s3://), and records in shards."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import threading
from collections.abc import Iterator

import tensorflow as tf
from absl import logging

from trainers.video_classification.data.errors import DataError

VIDEO_SUFFIXES = frozenset(
    ".3gp .264 .265 .avi .flv .gif .h264 .h265 .hevc .m2ts .m4v .mkv .mov .mp4 .mpeg "
    ".mpg .mts .ogv .ts .vob .webm .wmv".split()
)


def has_video_suffix(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


def is_remote(path: str) -> bool:
    """Whether the path is on a file system of TensorFlow's: gs://, s3://, ..."""
    return "://" in path


def is_record(path: str) -> bool:
    """Whether the path is `shard.tfrecord#offset`: one record of a shard."""
    shard, _, offset = path.rpartition("#")
    return shard.endswith(".tfrecord") and offset.isdigit()


def join(root: str, path: str) -> str:
    """`path`, relative to `root` unless it is absolute or remote."""
    return path if is_remote(path) else os.path.join(root, path)


def exists(path: str) -> bool:
    """Whether a file or folder exists at `path`.

    Raises:
        DataError: TensorFlow has no such file system, or cannot reach it.
    """
    if not is_remote(path):
        return os.path.exists(path)
    try:
        return tf.io.gfile.exists(path)
    except tf.errors.UnimplementedError as error:
        raise DataError(
            f"{path}: this TensorFlow has no {path.partition('://')[0]}:// file "
            "system. Copy the files to a local disk or to gs://, or use "
            "tensorflow-io (`pip install keras_nonlocal[tfio]`, TensorFlow "
            "2.16-2.17) with `decoder: tfio`."
        ) from error
    except tf.errors.OpError as error:
        raise DataError(f"{path}: cannot be reached ({error}).") from error


def is_folder(path: str) -> bool:
    return tf.io.gfile.isdir(path) if is_remote(path) else os.path.isdir(path)


def listdir(path: str) -> list[str]:
    """Names in a folder, without the slash that gs:// appends to folders.

    Names that are not UTF-8 can neither be printed nor saved: they are left out,
    with a warning.
    """
    if is_remote(path):
        return [name.rstrip("/") for name in tf.io.gfile.listdir(path)]
    names = os.listdir(path)
    good = [name for name in names if _is_utf8(name)]
    for name in set(names).difference(good):
        logging.warning("Left out %a in %s: its name is not UTF-8.", name, path)
    return good


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def glob(pattern: str) -> list[str]:
    return tf.io.gfile.glob(pattern)


def read_json(path: str, key: str):
    """Reads the value of `key` in a JSON file of `trainers/prepare_video.py`."""
    text = "\n".join(read_lines(path))
    try:
        return json.loads(text)[key]
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{path}: has no {key!r}; it was not written by prepare_video.py, or is "
            "damaged. Remove it, or move the shards to a folder of their own."
        ) from error


def read_lines(path: str) -> list[str]:
    """Reads the lines of a UTF-8 text file, with or without a byte order mark."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except (tf.errors.OpError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not a text file in UTF-8 ({error}).") from error
    return text.splitlines()


@contextlib.contextmanager
def complete_or_absent(path: str) -> Iterator[str]:
    """Context that gives a temporary name to write to, renamed to `path` at the end.

    Raises:
        DataError: It could not be written.
    """
    folder, name = os.path.split(path)
    # Workers of a killed run may still finish a file: no two share a name.
    writer = f"{os.getpid()}.{threading.get_ident()}"
    part = os.path.join(folder, f".{name}.{writer}.part")
    try:
        yield part
        os.replace(part, path)
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"{path}: cannot be written ({error}).") from error
    finally:
        pathlib.Path(part).unlink(missing_ok=True)
