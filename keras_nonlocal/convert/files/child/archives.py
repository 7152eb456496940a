"""Archives around checkpoints, unpacked in memory: nothing of them is written."""

import gzip
import io
import tarfile
import zipfile
import zlib

from .errors import ReadError

CHUNK = 2**24
ENTRY = 2**10  # bytes of memory that one more name in a zip takes
ENTRY_START = b"PK\1\2"  # of each in the table at a zip's end
DAMAGE = (EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_gzip(data, allowance):
    """Decompresses a gzip file; several streams may follow one another."""
    parts = []
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            while part := file.read(CHUNK):
                allowance.charge(len(part), "compressed data")
                parts.append(part)
    except (EOFError, OSError, zlib.error) as error:
        raise ReadError(
            f"its compressed data is truncated or damaged ({error}). Download it again."
        ) from error
    return b"".join(parts)


def read_tar(data):
    """`{name: bytes}` of the files in a tar, without links, devices and folders."""
    files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for info in tar:
                end = info.offset_data + info.size
                if not info.offset_data <= end <= len(data):
                    raise ReadError("its tar is truncated. Download it again.")
                if info.issparse() or info.type not in tarfile.SUPPORTED_TYPES:
                    raise ReadError(
                        f"its tar holds an entry of type {info.type!r}, which is not "
                        "read. Unpack it and give the checkpoint itself."
                    )
                if info.isreg():
                    files[info.name] = data[info.offset_data : end]
    except tarfile.TarError as error:
        raise ReadError(f"its tar is damaged ({error}). Download it again.") from error
    if data[tar.offset : tar.offset + tarfile.BLOCKSIZE].strip(b"\0"):
        raise ReadError(
            f"the tar header at byte {tar.offset} is damaged. Download it again."
        )
    return files


class Zip:
    """The files in a zip, read one by one, checksums verified."""

    def __init__(self, data, allowance):
        self.allowance = allowance
        allowance.charge(ENTRY * data.count(ENTRY_START), "a table of files")
        try:
            self.zip = zipfile.ZipFile(io.BytesIO(data))
        except DAMAGE as error:
            raise ReadError(
                f"its zip is damaged or truncated ({error}). Download it again."
            ) from error
        self.names = [name for name in self.zip.namelist() if name[-1:] != "/"]

    def read(self, name):
        if name not in self.names:
            raise ReadError(f"its zip has no file {name!r}: it is damaged.")
        info = self.zip.getinfo(name)
        if info.flag_bits & 1 or info.compress_type not in (0, zipfile.ZIP_DEFLATED):
            raise ReadError(
                f"{name!r} in its zip is encrypted or compressed in a rare way. "
                "Unpack it and give the checkpoint itself."
            )
        self.allowance.charge(info.file_size, "files")
        if not getattr(info, "CRC", None):  # torch can be set to write no checksums
            info.CRC = 0
            del info.CRC  # zipfile verifies those that are there
        try:
            data = self.zip.read(info)
            if len(data) != info.file_size:
                raise EOFError("too short")
        except DAMAGE as error:
            raise ReadError(
                f"{name!r} in its zip differs from its checksum or cannot be unpacked "
                f"({error}): it is damaged. Download it again."
            ) from error
        return data
