"""Checkpoints as files: found, verified, written and removed.

The files `ckpt-STEP.index` and `ckpt-STEP.data-*` are a checkpoint; that of the best
is called `best-STEP`. They are found by these names. `ckpt-STEP.statistics.*` are the
statistics of batch normalisation beside it (`checkpoints.read_statistics`).
TensorFlow's state file `checkpoint` is written for other programs, and never read.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator

import tensorflow as tf

from trainers.core import files
from trainers.core.errors import UserError, warn
from trainers.core.files import FileError

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # ends the keys of variables
_STATE_FILE = "checkpoint"
_STATISTICS = ".statistics"  # ends the prefix of those beside a checkpoint
_NAME = re.compile(r"(?:ckpt|best)-(\d+)")
_FILE = re.compile(r"(.+)\.(?:index|data-\d{5}-of-\d{5})")
_TENSORFLOWS_PART = re.compile(rf"{_NAME.pattern}_temp")


class DamagedError(FileError):
    """A checkpoint is incomplete, or its content is not what was written."""


# === Find ===


def find(source: str) -> str:
    """Prefix of the checkpoint at `source`, or of the newest whole one in that folder.

    Args:
        source: Prefix or folder. In a folder, damaged checkpoints are skipped with a
            warning.

    Raises:
        DamagedError: The checkpoint is damaged, or all in the folder are; names the
            newest whole one near it.
        UserError: There is none.
    """
    source = os.fspath(source)
    if _parts(source):
        _verify_or_advise(source)
        return source
    found = prefixes(source)
    if found:
        return first_whole(found)
    raise UserError(
        f"No checkpoint at {source}. Expected the model directory of a training "
        "run, or the path of a checkpoint without `.index`."
    )


def prefixes(folder) -> list[str]:
    """Prefixes of the checkpoints in a folder, whole or damaged, the newest first."""
    names = {match.group(1) for match in _matches(folder)}
    names = [name for name in names if _NAME.fullmatch(name)]
    return [files.join(folder, x) for x in sorted(names, key=number, reverse=True)]


def number(prefix: str) -> int | None:
    """The step in the name of a checkpoint, if it has one."""
    match = _NAME.fullmatch(os.path.basename(prefix))
    return int(match.group(1)) if match else None


def statistics_of(prefix: str) -> str:
    """Prefix of the statistics beside a checkpoint."""
    return f"{prefix}{_STATISTICS}"


def exists(prefix: str) -> bool:
    """Whether there are files of a checkpoint, whole or damaged."""
    return bool(_parts(prefix))


def first_whole(candidates: Iterable[str]) -> str:
    """The first of some checkpoints that is whole; warns about those before it.

    Raises:
        DamagedError: None is whole.
    """
    damaged = []
    for prefix in candidates:
        try:
            verify(prefix)
        except DamagedError as error:
            damaged.append(error)
            continue
        for error in damaged:
            warn(f"{error} Using {prefix} instead.")
        return prefix
    listed = "\n".join(f"  {error}" for error in damaged)
    raise DamagedError(
        os.path.dirname(damaged[0].path),
        f"holds checkpoints, but none is whole.\n{listed}\nBring one back from a copy. "
        "To train from the start, remove them, or choose another --model_dir.",
    )


def _verify_or_advise(prefix: str):
    try:
        verify(prefix)
    except DamagedError as error:
        folder = os.path.dirname(prefix)
        near = (*prefixes(folder), *prefixes(os.path.dirname(folder)))
        other = next(filter(is_whole, near), None)
        found = f"The newest whole one is {other}."
        advice = found if other else "No other one beside it is whole."
        raise DamagedError(prefix, f"{error.reason} {advice}") from error


# === Verify and read ===


def is_whole(prefix: str) -> bool:
    """Whether all of a checkpoint can be read, and is what was written."""
    try:
        verify(prefix)
    except DamagedError:
        return False
    return True


def verify(prefix: str) -> None:
    """Reads all of a checkpoint, and compares the checksums.

    Raises:
        DamagedError: It is incomplete, damaged, or has the name of another step.
    """
    endings = {name.rpartition(".")[2][:5] for name in _parts(prefix)}
    for ending, kind in (("index", "index"), ("data-", "data")):
        if ending not in endings:
            raise DamagedError(prefix, f"its {kind} file is missing.")
    for _ in read(prefix):
        pass
    named = number(prefix)
    if named is not None and named != step_of(prefix):
        raise DamagedError(prefix, f"holds step {step_of(prefix)}: it was renamed.")


def read(prefix: str, start: str = "") -> Iterator[tuple]:
    """The tensors of a checkpoint, `(key, array)`, whose keys begin with `start`.

    Raises:
        DamagedError: They are incomplete or damaged.
    """
    with _errors(prefix):
        reader = _reader(prefix)
        for key in sorted(reader.get_variable_to_shape_map()):
            if key.startswith(start):
                yield key, reader.get_tensor(key)


def shapes(prefix: str) -> dict[str, tuple]:
    """Shapes of the tensors in a checkpoint by key."""
    with _errors(prefix):
        found = _reader(prefix).get_variable_to_shape_map()
    return {key: tuple(shape) for key, shape in found.items()}


def step_of(prefix: str) -> int:
    """Training step at which a checkpoint was saved.

    Raises:
        DamagedError: It cannot be read, or was not written by these trainers.
    """
    key = f"global_step{VALUE}"
    step = dict(read(prefix, start=key)).get(key)
    if step is None or step.shape:
        raise DamagedError(prefix, "is not a checkpoint of these trainers.")
    return int(step)


def _parts(prefix: str) -> list[str]:
    """Names of the files of a checkpoint."""
    folder, name = os.path.split(prefix)
    return [match.group() for match in _matches(folder) if match.group(1) == name]


def _matches(folder: str) -> list[re.Match]:
    """Of the files in a folder, those of checkpoints."""
    folder = folder or "."
    names = files.listdir(folder) if files.is_folder(folder) else ()
    return [match for match in map(_FILE.fullmatch, names) if match]


@contextlib.contextmanager
def _errors(prefix: str) -> Iterator[None]:
    try:
        yield
    except (tf.errors.OpError, IndexError, ValueError, RuntimeError) as error:
        raise DamagedError(prefix, f"is damaged ({files.reason(error)}).") from error


def _reader(prefix: str):
    # `tf.train.load_checkpoint` takes prefixes on ram:// for folders.
    return tf.compat.v1.train.NewCheckpointReader(prefix)


# === Write and remove ===


def write(checkpoint: tf.train.Checkpoint, prefix: str) -> None:
    """Saves a checkpoint; its index, the last file to appear, makes it one.

    Args:
        checkpoint: What to save.
        prefix: `FOLDER/ckpt-STEP`.

    Raises:
        FileError: It cannot be written; nothing is left.
    """
    folder, name = os.path.split(prefix)
    with files.errors(prefix, "cannot be written"):
        with files.scratch_folder(prefix) as part:
            checkpoint.write(files.join(part, name))
            files.move_files(part, folder, last=f"{name}.index")


def write_state(folder: str, kept: list[str]) -> None:
    """Writes TensorFlow's state file, of checkpoints from the oldest to the newest."""
    names = [os.path.basename(prefix) for prefix in kept]
    lines = [f'all_model_checkpoint_paths: "{name}"\n' for name in names]
    text = "".join([f'model_checkpoint_path: "{names[-1]}"\n', *lines])
    files.write_text(files.join(folder, _STATE_FILE), text, durable=False)


def remove(prefix: str) -> None:
    """Removes a checkpoint: first the index, so that it is one no longer."""
    for part in (prefix, statistics_of(prefix)):
        for name in sorted(_parts(part), key=lambda name: not name.endswith(".index")):
            files.remove(files.join(os.path.dirname(prefix), name))


def remove_unfinished(folder: str) -> None:
    """Removes what saves left in a folder when they were killed."""
    for name in files.find_parts(folder).values():
        prefix = files.join(folder, name)
        if number(name) is not None and not files.exists(f"{prefix}.index"):
            remove(prefix)  # data that were moved here, without their index
    for match in _matches(folder):
        prefix = files.join(folder, match.group(1)).removesuffix(_STATISTICS)
        if number(prefix) is not None and not exists(prefix):
            remove(prefix)  # statistics without a checkpoint
    files.remove_parts(folder)
    for name in files.listdir(folder) if files.is_folder(folder) else ():
        if _TENSORFLOWS_PART.fullmatch(name):
            files.remove_folder(files.join(folder, name))
