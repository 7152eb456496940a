"""Recognises the format of a file by its content: a suffix may be wrong."""

import re
import tarfile

TORCH_LEGACY = b"\x80\x02\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
TABLE_END = bytes.fromhex("57fb808b247547db")  # of a tf.train checkpoint's index
MAX_HEADER = 100 * 10**6  # of safetensors: the format's own limit
TEXT_PICKLE = re.compile(
    rb"\([dl]p\d+\n|[}\]]q.|[}\]]\(|\([dl][.SVIF(]|c[A-Za-z_][\w.]*\n[\w.]+\n",
    re.DOTALL,
)
STARTS = {
    TORCH_LEGACY: "torch_legacy",
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"\x1f\x8b": "gzip",
    b"PK\3\4": "zip",
    b"PK\5\6": "zip",
    **{b"\x80" + bytes([protocol]): "pickle" for protocol in (2, 3, 4, 5)},
}
OTHERS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: run `git "
    "lfs pull`, or download the file",
    b"BZh": "bzip2-compressed: unpack it first",
    b"\xfd7zXZ": "xz-compressed: unpack it first",
    b"\x28\xb5\x2f\xfd": "zstd-compressed: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"\x93NUMPY": "a single NumPy array, not a checkpoint",
    b"\x12\x01\0\0\0\0\0\0": "an MXNet .params file: the PyTorch weights of GluonCV "
    "are read, MXNet's are not",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF",
}


def sniff(data):
    """The format's name, or None if it is not one that is read."""
    length = int.from_bytes(data[:8], "little")
    # First: a header of 640 bytes looks like the start of a pickle.
    if data[8:9] == b"{" and 2 <= length <= MAX_HEADER:
        return "safetensors"
    for start, name in STARTS.items():
        if data.startswith(start):
            return name
    if is_tar(data):
        return "tar"
    return "pickle" if TEXT_PICKLE.match(data) else None


def is_tar(data):
    """Whether `data` begins with a tar header: one whose checksum is right."""
    try:
        tarfile.TarInfo.frombuf(data[: tarfile.BLOCKSIZE], "utf-8", "replace")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def describe(data):
    """What a file that is no checkpoint is instead, and what to do."""
    if not data:
        return "empty: download it again"
    for start, what in OTHERS.items():
        if data.startswith(start):
            return what
    if data.endswith(TABLE_END):
        return (
            "the index of a tf.train checkpoint. Unpack or rename it, so that "
            "'x.index' and 'x.data-...' lie together, and give their prefix 'x'"
        )
    head = data[:1024].lstrip(b"\xef\xbb\xbf \r\n\t")
    if re.match(rb"<(!doctype|html|head|\?xml|!--)", head, re.IGNORECASE):
        return (
            "an HTML page, not a checkpoint: the download got an error or login "
            "page. Open the address in a browser and download the file itself"
        )
    text = data[:1024].decode("utf-8", "ignore")  # may end within a character
    if len(text.encode()) > len(data[:1024]) - 4 and not re.search(r"[\0-\x08]", text):
        return f"a text file, not a checkpoint; it begins {head[:40]!r}"
    return (
        "of no known format (expected torch, Caffe2 pickle, safetensors, HDF5, "
        f".keras or tf.train); it begins {data[:16].hex(' ')}"
    )
