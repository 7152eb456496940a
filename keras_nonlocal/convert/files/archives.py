"""Archives around checkpoints (gzip, tar, zip), unpacked in memory and bounded.

Nothing is written to disk, so names such as `../x` in an archive lead nowhere.
"""

import io
import re
import struct
import zipfile
import zlib

from keras_nonlocal.convert.errors import CheckpointError

GZIP_START = b"\x1f\x8b"
CHUNK = 2**16
STREAM = 2**12  # what one more stream costs
ENTRY = 2**10  # what one more file in a zip costs
ENTRY_START = b"PK\1\2"  # of each in the table at a zip's end
TAR_BLOCK = 512
TAR_FILES = (b"0", b"\0")
TAR_SKIPPED = b"LKxg125346"  # long names, attributes, links, devices, folders


def inflate(data, window, budget, start=0):
    """`(unpacked, end)`: zlib's data from byte `start` on, charged as it grows."""
    engine, parts, position = zlib.decompressobj(window), [], start
    budget.charge(STREAM, "compressed data")
    while not engine.eof:
        chunk = data[position : position + CHUNK]
        if not chunk:
            raise CheckpointError(
                "its compressed data is truncated. Download it again."
            )
        position += len(chunk)
        parts.append(engine.decompress(chunk))
        budget.charge(len(parts[-1]), "compressed data")
    return b"".join(parts), position - len(engine.unused_data)


def read_gzip(data, budget):
    """What a gzip file holds; several streams may follow one another."""
    parts, position = [], 0
    while data.startswith(GZIP_START, position):
        part, position = inflate(data, zlib.MAX_WBITS | 16, budget, position)
        parts.append(part)
    return b"".join(parts)


def read_tar(data):
    """`{name: bytes}` of the files in a tar.

    Python's `tarfile` expands sparse files and can be kept busy for ever by
    headers of negative size; the few rules of the format are simple.
    """
    files, position = {}, 0
    while data[position : position + TAR_BLOCK].strip(b"\0"):
        header = data[position : position + TAR_BLOCK]
        if not is_tar(header):
            raise CheckpointError(
                f"the tar header at byte {position} is damaged. Download it again."
            )
        start, size = position + TAR_BLOCK, tar_number(header[124:136])
        if start + size > len(data):
            raise CheckpointError("its tar is truncated. Download it again.")
        if header[156:157] in TAR_FILES:
            name = header[:100].partition(b"\0")[0].decode("utf-8", "replace")
            files[name] = data[start : start + size]
        elif header[156] not in TAR_SKIPPED:
            raise CheckpointError(
                f"its tar holds an entry of type {header[156:157]!r}, which is not "
                "read. Unpack it and give the checkpoint itself."
            )
        position = start + -(-size // TAR_BLOCK) * TAR_BLOCK
    return files


def is_tar(data):
    """Whether `data` begins with a tar header: its checksum tells."""
    header = data[:TAR_BLOCK]
    blank = header[:148] + b" " * 8 + header[156:]
    return len(header) == TAR_BLOCK and sum(blank) == tar_number(header[148:156])


def tar_number(field):
    """An octal number, or a binary one where the first bit is set."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    text = field.strip(b" \0")
    return int(text, 8) if re.fullmatch(rb"[0-7]+", text) else 0


class ZipArchive:
    """The files in a zip, read one by one, checksums verified.

    Args:
        data: Bytes.
        budget: A `Budget`, charged for what is unpacked.
    """

    def __init__(self, data, budget):
        self.data = data
        self.budget = budget
        budget.charge(ENTRY * data.count(ENTRY_START), "a table of files")
        try:
            infos = zipfile.ZipFile(io.BytesIO(data)).infolist()
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise CheckpointError(
                f"its zip is damaged or truncated ({error}). Download it again."
            ) from error
        self.infos = {info.filename: info for info in infos if not info.is_dir()}

    def names(self):
        return list(self.infos)

    def folder_of(self, name):
        """The folder of the one file called `name`, `""` at the top."""
        found = [n for n in self.infos if n == name or n.endswith(f"/{name}")]
        if len(found) != 1:
            raise CheckpointError(f"its zip has {len(found)} files {name!r}, not one.")
        return found[0].removesuffix(name)

    def copy(self, name):
        """The bytes of one file, of their own."""
        data = self.read(name)
        self.budget.charge(len(data), "files")
        return bytes(data)

    def read(self, name):
        """The bytes of one file, or a view of them where they are stored plainly."""
        if name not in self.infos:
            raise CheckpointError(f"its zip has no file {name!r}: it is damaged.")
        info = self.infos[name]
        packed = self.packed(info)
        self.budget.charge(len(packed), "files")  # many names may share their bytes
        if info.flag_bits & 1 or info.compress_type not in (0, zipfile.ZIP_DEFLATED):
            raise CheckpointError(
                f"{name!r} in its zip is encrypted or compressed in a rare way. "
                "Unpack it and give the checkpoint itself."
            )
        if info.compress_type == zipfile.ZIP_DEFLATED:
            packed = memoryview(inflate(packed, -zlib.MAX_WBITS, self.budget)[0])
        # torch can be told to write no checksums; they are 0 then.
        damaged = info.CRC and zlib.crc32(packed) != info.CRC
        if damaged or len(packed) != info.file_size:
            raise CheckpointError(
                f"{name!r} in its zip differs from its checksum: it is damaged. "
                "Download it again."
            )
        return packed

    def packed(self, info):
        """What lies behind the file's local header."""
        head = self.data[info.header_offset : info.header_offset + 30]
        if len(head) < 30 or not head.startswith(b"PK\3\4"):
            raise CheckpointError(f"{info.filename!r} in its zip is damaged.")
        start = info.header_offset + 30 + sum(struct.unpack("<HH", head[26:]))
        return memoryview(self.data)[start : start + info.compress_size]
