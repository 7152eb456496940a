"""Which format a file has, by its content: suffixes lie."""

import codecs
import re

from keras_nonlocal.convert.files.archives import GZIP_START, is_tar
from keras_nonlocal.convert.files.hdf5 import HDF5_START
from keras_nonlocal.convert.files.safetensors_files import is_safetensors
from keras_nonlocal.convert.files.torch_files import LEGACY_START

TABLE_END = bytes.fromhex("57fb808b247547db")  # of a tf.train checkpoint's index
TEXT_PICKLE = re.compile(
    rb"\([dl]p\d+\n|[}\]]q.|[}\]]\(|\([dl][.SVIF(]|c[A-Za-z_][\w.]*\n[\w.]+\n",
    re.DOTALL,
)
STARTS = {
    LEGACY_START: "torch_legacy",
    HDF5_START: "hdf5",
    GZIP_START: "gzip",
    b"PK\3\4": "zip",
    b"PK\5\6": "zip",
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
    if is_safetensors(data):  # first: a length of 640 looks like a pickle's start
        return "safetensors"
    for start, name in STARTS.items():
        if data.startswith(start):
            return name
    if data[:1] == b"\x80" and 2 <= data[1] <= 5:
        return "pickle"
    if is_tar(data):
        return "tar"
    if data.endswith(TABLE_END):
        return "tf_index"
    return "pickle" if TEXT_PICKLE.match(data) else None


def describe(data):
    """What a file that is no checkpoint is instead, and what to do."""
    if not data:
        return "empty: download it again"
    for start, what in OTHERS.items():
        if data.startswith(start):
            return what
    head = data[:1024].lstrip(b"\xef\xbb\xbf \r\n\t")
    if re.match(rb"<(!doctype|html|head|\?xml|!--)", head, re.IGNORECASE):
        return (
            "an HTML page, not a checkpoint: the download got an error or login "
            "page. Open the address in a browser and download the file itself"
        )
    if is_text(data[:1024]):
        return f"a text file, not a checkpoint; it begins {head[:40]!r}"
    return (
        "of no known format (expected torch, Caffe2 pickle, safetensors, HDF5, "
        f".keras or tf.train); it begins {data[:16].hex(' ')}"
    )


def is_text(head):
    if re.search(rb"[\0-\x08]", head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # may end in a character
    except UnicodeDecodeError:
        return False
    return True
