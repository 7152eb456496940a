"""JPEG and PNG images: their size, encoding and decoding."""

from __future__ import annotations

import struct

import cv2
import numpy as np

_START = b"\xff\xd8"
_PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_SIZE = struct.Struct(">II")
_SIZE = struct.Struct(">HH")
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEGMENTS = {0xC4, 0xCC, *range(0xDB, 0xFF)}  # those that may come before


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encodes RGB pixels: uint8 (height, width, 3)."""
    bgr = np.ascontiguousarray(image[..., ::-1])
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def decode_image(content: bytes) -> np.ndarray | None:
    """RGB pixels: uint8 (height, width, 3); None if they cannot be decoded."""
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None


def image_size(content: bytes) -> tuple[int, int] | None:
    """(height, width) in the header of a JPEG or PNG image; None if there is none."""
    if content[:16] == _PNG_START:
        width, height = _PNG_SIZE.unpack_from(content.ljust(24, b"\0"), 16)
        return height, width
    return jpeg_size(content)


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """(height, width) in the header of a JPEG image; None if there is none.

    Decoding needs memory for these, whatever follows.
    """
    if not content.startswith(_START):
        return None
    position = len(_START)
    while position + 9 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker in _FRAME_HEADERS:
            return _SIZE.unpack_from(content, position + 5)
        if marker not in _SEGMENTS:
            return None
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return None
