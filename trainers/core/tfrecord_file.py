"""TFRecord files: records found by their offset, with their checksums checked.

A record is its length (8 bytes), a checksum of these bytes, the payload, and a
checksum of the payload.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import crc32c

from trainers.core import files

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_HEADER_BYTES = _LENGTH.size + _CHECKSUM.size
FRAMING_BYTES = _HEADER_BYTES + _CHECKSUM.size  # of a record, beside its payload
_MAX_BYTES = 2**31 - 1  # of a payload; protobuf's limit
_FIX = "Write the shard again, or fetch it again from where it came."


class TFRecordFile:
    """An open TFRecord file.

    A local one stays readable when another process removes it.

    Args:
        path: Local or remote.
        error: Raised as `error(path, reason)`; the path is `path#offset`.
        offset: Of the record to read, for messages.

    Raises:
        error: It cannot be opened.
    """

    def __init__(self, path: str, error: Callable[[str, str], Exception], offset=0):
        self.path, self._file, self._make_error = path, None, error
        try:
            self._file = files.open_to_read(path)
            with files.errors(path, "cannot be read"):
                self._file.seek(0, 2)
                self.num_bytes = self._file.tell()
        except files.FileError as found:
            raise self._error(offset, found.reason) from found

    def __del__(self):
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def payload(self, offset: int) -> bytes:
        """The payload of the record at `offset`.

        Raises:
            error: It is cut short, or a checksum does not match.
        """
        length = self.length(offset)
        content = self._read(offset, _HEADER_BYTES, length)
        stored = self._read(offset, _HEADER_BYTES + length, _CHECKSUM.size)
        self._check(offset, content, stored, "content")
        return content

    def length(self, offset: int) -> int:
        """Number of bytes of the payload, all of which are in the file."""
        header = self._read(offset, 0, _HEADER_BYTES)
        self._check(offset, header[: _LENGTH.size], header[_LENGTH.size :], "length")
        (length,) = _LENGTH.unpack_from(header)
        if length > _MAX_BYTES:
            raise self._error(offset, f"is too long ({length} bytes)")
        if offset + FRAMING_BYTES + length > self.num_bytes:
            raise self._error(offset, f"is cut short. {_FIX}")
        return length

    def piece(self, offset: int, start: int, count: int) -> bytes:
        """Bytes of the payload of the record at `offset`; no checksum is checked."""
        return self._read(offset, _HEADER_BYTES + start, count)

    def offsets(self) -> Iterator[tuple[int, int]]:
        """(offset, length of the payload) of every record."""
        offset = 0
        while offset < self.num_bytes:
            length = self.length(offset)
            yield offset, length
            offset += FRAMING_BYTES + length

    def _read(self, offset: int, start: int, count: int) -> bytes:
        # TensorFlow crashes if more bytes are requested than the file has.
        if offset + start + count > self.num_bytes:
            raise self._error(offset, f"is cut short, or no TFRecord. {_FIX}")
        try:
            with files.errors(self.path, "cannot be read"):
                self._file.seek(offset + start)
                return self._file.read(count)
        except files.FileError as error:
            raise self._error(offset, error.reason) from error

    def _check(self, offset: int, content: bytes, stored: bytes, what: str) -> None:
        if _CHECKSUM.pack(_checksum(content)) != stored:
            reason = f"the checksum does not match the {what} of the record: damaged"
            raise self._error(offset, f"{reason}, or no TFRecord. {_FIX}")

    def _error(self, offset: int, reason: str) -> Exception:
        return self._make_error(f"{self.path}#{offset}", reason)


def _checksum(content: bytes) -> int:
    """TensorFlow's masked CRC-32C."""
    crc = crc32c.crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
