"""The files that predictions are written to, each complete or absent.

A record is a dict with `path` and, of a segment, `start` and `end` in seconds. It has
`predictions`, dicts of `class`, `label` and `score` by falling score, of which the
first is also in the record itself; or an `error`.
"""

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from trainers.core import files
from trainers.core.errors import UserError, check_key

TIMELINES = ("jsonl", "srt", "vtt", "mp4")
FEATURES = ("npz", "parquet")
ANNOTATED = ".annotated.mp4"  # ending of the pictures
_NUM_SHOWN = 3  # classes in a caption


def check_kinds(outputs, features: str) -> None:
    """Raises `UserError` for kinds of files that cannot be written."""
    for kind in outputs:
        check_key("--outputs", kind, TIMELINES)
    if features:
        check_key("--features", features, FEATURES)
    if features == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise UserError(
                "--features=parquet needs pyarrow: pip install pyarrow (or the "
                "[parquet] extra), or use --features=npz."
            ) from error


def output_paths(folder: str, stem: str, kinds) -> dict[str, str]:
    """The files of a video, by kind; `jsonl`, which appears last, is always one."""
    endings = {"mp4": ANNOTATED, "npz": ".features.npz", "parquet": ".features.parquet"}
    kinds = dict.fromkeys(["jsonl", *kinds])
    paths = {kind: f"{stem}{endings.get(kind, f'.{kind}')}" for kind in kinds}
    return {kind: files.join(folder, path) for kind, path in paths.items()}


@contextlib.contextmanager
def writing(paths: Mapping[str, str], annotate: Callable) -> Iterator[Callable]:
    """Context: a function of a record and its features, which writes them.

    Args:
        paths: Files by kind, see `output_paths`.
        annotate: Function of captions, (start, end, lines), and of a path: writes the
            annotated video there.

    Raises:
        FileError: A file cannot be written; none is left.
    """
    with contextlib.ExitStack() as stack:
        writers = []
        for kind, path in paths.items():
            files.make_folder(os.path.dirname(path))
            part = stack.enter_context(files.replacing(path))
            if kind in ("srt", "vtt"):
                writer = _Subtitles(path, part, kind)
            elif kind == "mp4":
                writer = _Annotated(path, part, annotate)
            else:
                writer = {"jsonl": _Lines, **_FEATURES}[kind](path, part)
            stack.callback(writer.close)
            writers.append(writer)

        def write(record, features=None):
            for writer in writers:
                writer.add(record, features)

        yield write
        for writer in reversed(writers):
            writer.finish()


class _Writer:
    """Writes a file.

    Args:
        path: The file, for messages.
        part: Where it is written to, before it is renamed.
    """

    def __init__(self, path: str, part: str):
        self.path, self.part = path, part

    def add(self, record: Mapping, features: np.ndarray | None) -> None:
        """Adds a record."""

    def finish(self) -> None:
        """Writes what is left, after the last record."""

    def close(self) -> None:
        """Releases the file, also after an error."""


class _Text(_Writer):
    def __init__(self, path: str, part: str):
        super().__init__(path, part)
        with files.errors(path, "cannot be written"):
            self._file = files.open_to_write(part)

    def _write(self, text: str) -> None:
        with files.errors(self.path, "cannot be written"):
            self._file.write(text.encode())
            self._file.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # already reported
            self._file.close()


class _Lines(_Text):
    """A JSON document per record and line."""

    def add(self, record, features):
        self._write(json.dumps(record) + "\n")


# === Captions ===


def caption(record: Mapping) -> list[str]:
    """The best classes of a record, one in a line."""
    best = record["predictions"][:_NUM_SHOWN]
    return [f"{files.printable(row['class'])} {row['score']:.2f}" for row in best]


class Captions:
    """When the caption of each segment is shown.

    Of segments that overlap, each is shown until the middle of what it shares with
    the next.
    """

    def __init__(self, show: Callable[[float, float, list[str]], None]):
        self._show, self._begin, self._last = show, 0.0, None

    def add(self, record: Mapping) -> None:
        begin = record["start"]
        if self._last:
            end = self._last["end"]
            begin = (begin + end) / 2 if begin < end else begin
            self._show(self._begin, min(begin, end), caption(self._last))
        self._begin, self._last = begin, record

    def finish(self) -> None:
        if self._last:
            self._show(self._begin, self._last["end"], caption(self._last))


class _Subtitles(_Text):
    """SubRip or WebVTT."""

    def __init__(self, path: str, part: str, kind: str):
        super().__init__(path, part)
        self._is_web, self._number = kind == "vtt", 0
        self._captions = Captions(self._cue)
        if self._is_web:
            self._write("WEBVTT\n\n")

    def add(self, record, features):
        if "error" not in record:
            self._captions.add(record)

    def finish(self):
        self._captions.finish()

    def _cue(self, start: float, end: float, lines: list[str]) -> None:
        self._number += 1
        point = "." if self._is_web else ","
        times = f"{clock_time(start, point)} --> {clock_time(end, point)}"
        text = "\n".join(lines)
        for character, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(character, name) if self._is_web else text
        self._write(f"{self._number}\n{times}\n{text}\n\n")


def clock_time(seconds: float, point: str) -> str:
    """`hours:minutes:seconds` with milliseconds.

    Example:
    >>> clock_time(3661.5, ",")
    '01:01:01,500'
    """
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours:02d}:{minutes:02d}:{whole % 60:02d}{point}{milliseconds:03d}"


class _Annotated(_Writer):
    """The video with captions in its pictures, made when all of them are known."""

    def __init__(self, path: str, part: str, annotate: Callable):
        super().__init__(path, part)
        self._annotate, self._shown = annotate, []
        self._captions = Captions(lambda *shown: self._shown.append(shown))

    def add(self, record, features):
        if "error" not in record:
            self._captions.add(record)

    def finish(self):
        self._captions.finish()
        if not files.is_remote(self.part):
            with files.errors(self.path, "cannot be written"):
                self._annotate(self._shown, self.part)
            return
        with tempfile.TemporaryDirectory() as folder:
            local = os.path.join(folder, "annotated.mp4")
            self._annotate(self._shown, local)
            with files.errors(self.path, "cannot be written"):
                _copy(local, self.part)


def _copy(source: str, target: str) -> None:
    with open(source, "rb") as read, files.open_to_write(target) as write:
        shutil.copyfileobj(read, write)


# === Features ===


class _Features(_Writer):
    """A row per segment: its features, place and best class."""

    def __init__(self, path: str, part: str):
        super().__init__(path, part)
        self._records, self._features = [], []

    def add(self, record, features):
        if "error" not in record:
            self._records.append(record)
            self._features.append(np.asarray(features, np.float32))

    def _columns(self) -> dict[str, list]:
        nothing = float("nan")  # of whole videos
        return {
            "path": [record["path"] for record in self._records],
            "start": [record.get("start", nothing) for record in self._records],
            "end": [record.get("end", nothing) for record in self._records],
            "label": [record["label"] for record in self._records],
            "class": [record["class"] for record in self._records],
            "score": [record["score"] for record in self._records],
        }

    def _write(self, content: io.BytesIO) -> None:
        with (
            files.errors(self.path, "cannot be written"),
            files.open_to_write(self.part) as file,
        ):
            file.write(content.getvalue())


class _Npz(_Features):
    def finish(self):
        content = io.BytesIO()
        np.savez(content, features=np.array(self._features), **self._columns())
        self._write(content)


class _Parquet(_Features):
    def finish(self):
        import pyarrow
        from pyarrow import parquet

        content = io.BytesIO()
        table = pyarrow.table({**self._columns(), "features": self._features})
        parquet.write_table(table, content)
        self._write(content)


_FEATURES = {"npz": _Npz, "parquet": _Parquet}
