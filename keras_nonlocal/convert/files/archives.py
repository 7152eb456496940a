"""Archives around checkpoints (gzip, tar, zip), unpacked in memory and bounded.

Nothing is written to disk, so names such as `../x` in an archive lead nowhere.
"""

import io
import zipfile
import zlib

from keras_nonlocal.convert.errors import CheckpointError

GZIP_START = b"\x1f\x8b"
CHUNK = 2**20
TAR_BLOCK = 512
TAR_FILES = (b"0", b"\0")
TAR_SKIPPED = b"LKxg125346"  # long names, attributes, links, devices, folders


def inflate(data, window, budget):
    """`(unpacked, what follows)`: zlib's data, charged as it grows."""
    engine = zlib.decompressobj(window)
    parts, rest = [], data
    while not engine.eof:
        part = engine.decompress(rest, CHUNK)
        budget.charge(len(part), "compressed data")
        parts.append(part)
        rest = engine.unconsumed_tail
        if not part and not rest and not engine.eof:
            raise CheckpointError(
                "its compressed data is truncated. Download it again."
            )
    return b"".join(parts), engine.unused_data


def read_gzip(data, budget):
    """What a gzip file holds; several members follow one another."""
    parts = []
    while data.startswith(GZIP_START):
        part, data = inflate(data, zlib.MAX_WBITS | 16, budget)
        parts.append(part)
    return b"".join(parts)


def read_tar(data):
    """`{name: bytes}` of the files in a tar.

    Python's `tarfile` expands sparse files and can be kept busy for ever by
    headers of negative size; the few rules of the format are simple.
    """
    files, position = {}, 0
    while position + TAR_BLOCK <= len(data):
        header = data[position : position + TAR_BLOCK]
        if not header.strip(b"\0"):
            break
        check_tar_header(header, position)
        start = position + TAR_BLOCK
        size = tar_number(header[124:136])
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
    return data[257:262] == b"ustar"


def check_tar_header(header, position):
    expected = tar_number(header[148:156])
    blank = header[:148] + b" " * 8 + header[156:]
    if sum(blank) != expected:
        raise CheckpointError(f"the tar header at byte {position} is damaged.")


def tar_number(field):
    """An octal number, or a binary one where the first bit is set."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    text = field.strip(b" \0")
    if not all(digit in b"01234567" for digit in text):
        raise CheckpointError("a number in its tar is damaged.")
    return int(text or b"0", 8)


class ZipArchive:
    """The files in a zip, read one by one, checksums verified.

    Args:
        data: Bytes.
        budget: A `Budget`, charged for what is unpacked.
    """

    def __init__(self, data, budget):
        self.data = data
        self.budget = budget
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

    def get(self, name, default=None):
        return bytes(self.read(name)) if name in self.infos else default

    def read(self, name):
        """The bytes of one file, or a view of them where they are stored plainly."""
        if name not in self.infos:
            raise CheckpointError(f"its zip has no file {name!r}: it is damaged.")
        info = self.infos[name]
        packed = self.packed(info)
        if info.flag_bits & 1 or info.compress_type not in (0, zipfile.ZIP_DEFLATED):
            raise CheckpointError(
                f"{name!r} in its zip is encrypted or compressed in a rare way. "
                "Unpack it and give the checkpoint itself."
            )
        if info.compress_type == zipfile.ZIP_DEFLATED:
            packed = memoryview(inflate(packed, -zlib.MAX_WBITS, self.budget)[0])
        if len(packed) != info.file_size or zlib.crc32(packed) != info.CRC:
            raise CheckpointError(
                f"{name!r} in its zip fails its checksum: it is damaged. Download "
                "it again."
            )
        return packed

    def packed(self, info):
        """What lies behind the file's local header."""
        head = self.data[info.header_offset : info.header_offset + 30]
        if len(head) < 30 or not head.startswith(b"PK\3\4"):
            raise CheckpointError(f"{info.filename!r} in its zip is damaged.")
        lengths = (
            int.from_bytes(head[26:28], "little"),
            int.from_bytes(head[28:30], "little"),
        )
        start = info.header_offset + 30 + sum(lengths)
        return memoryview(self.data)[start : start + info.compress_size]
