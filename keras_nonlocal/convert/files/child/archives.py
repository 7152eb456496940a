"""Archives around checkpoints, unpacked in memory: nothing of them is written."""

import gzip
import io
import pathlib
import tarfile
import zipfile

from .errors import ReadError
from .sniff import sniff


def read_gzip(data):
    """Decompresses a gzip file; several streams may follow one another."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        return file.read()


def read_tar(data):
    """`{name: bytes}` of the files in a tar, without links, devices and folders."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        files = {
            info.name: tar.extractfile(info).read() for info in tar if info.isreg()
        }
    if data[tar.offset : tar.offset + tarfile.BLOCKSIZE].strip(b"\0"):
        raise ReadError(
            f"the tar header at byte {tar.offset} is damaged. Download it again."
        )
    return files


def read_zip(data):
    """`{name: bytes}` of the files in a zip, checksums verified."""
    archive, files = zipfile.ZipFile(io.BytesIO(data)), {}
    for info in archive.infolist():
        if info.flag_bits & 1:
            raise ReadError(
                f"{info.filename!r} in its zip is encrypted. Unpack it and give the "
                "checkpoint itself."
            )
        if not info.CRC:  # torch can be set to write no checksums
            del info.CRC  # zipfile verifies those that are there
        if not info.is_dir():
            files[info.filename] = archive.read(info)
    return files


def only_checkpoint(files, archive):
    """The one checkpoint among an archive's files; macOS adds `._x` for each."""
    found = [
        name
        for name, data in files.items()
        if sniff(data) and not pathlib.PurePosixPath(name).name.startswith("._")
    ]
    if len(found) != 1:
        what = "no checkpoint among its files" if not found else "several checkpoints"
        names = ", ".join(map(repr, (found or list(files))[:10])) or "none at all"
        raise ReadError(
            f"it is a {archive} with {what}: {names}. Unpack it and give the one to "
            "load."
        )
    return files[found[0]]
