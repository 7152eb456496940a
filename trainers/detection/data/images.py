"""Image files to RGB pixels, by Pillow, within limits."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import ExifTags, Image, ImageOps

from trainers.core import files
from trainers.core.files import FileError
from trainers.detection.data.configs import ImageLimits

IMAGE_SUFFIXES = frozenset(".bmp .gif .jpeg .jpg .png .tif .tiff .webp".split())

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, MemoryError)
_SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")


class ImageError(FileError):
    """An image cannot be decoded, or is another than its annotations describe."""


def read_image(
    path: str, limits: ImageLimits, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Reads an image file: uint8 (height, width, 3).

    Args:
        path: Local or remote.
        limits: Of what it may have.
        size: See `decode_image`.

    Raises:
        ImageError: It cannot be used; the message says why.
    """
    try:
        num_bytes = files.state(path)[1]
        if num_bytes > limits.bytes:
            raise _too_much(path, f"has {num_bytes} bytes", "bytes", limits.bytes)
        content = files.read_bytes(path)
    except ImageError:
        raise
    except FileError as error:
        raise ImageError(path, error.reason) from error
    return decode_image(content, path, limits, size)


def decode_image(
    content: bytes,
    path: str,
    limits: ImageLimits,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Decodes an image: uint8 (height, width, 3).

    Grey, palettes and CMYK become RGB, 16 bits become the upper 8, and transparency
    is dropped. An image whose EXIF data have an orientation is turned upright.

    Args:
        content: Of the file.
        path: For messages.
        limits: Of what it may have.
        size: (height, width) that it must have. If it has them only as it is stored,
            it is not turned: its annotations describe the stored pixels. None: any.

    Raises:
        ImageError: It is damaged, too large, or has another size.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            if width * height > limits.pixels:
                found = f"has {width} x {height} pixels"
                raise _too_much(path, found, "pixels", limits.pixels)
            return _rgb(_upright(image, path, size))
    except (ImageError, KeyboardInterrupt):
        raise
    except Image.DecompressionBombError as error:
        raise _too_much(path, str(error), "pixels", limits.pixels) from error
    except _DAMAGE as error:
        reason = str(error).partition("<_io")[0].strip() or type(error).__name__
        raise ImageError(path, f"cannot be decoded ({reason}).") from error


def _upright(image: Image.Image, path: str, size) -> Image.Image:
    image.load()  # of a damaged file, the error
    turned = image
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        turned = ImageOps.exif_transpose(image)
    for candidate in (turned, image):
        if size is None or candidate.size == (size[1], size[0]):
            return candidate
    raise ImageError(
        path,
        f"is {turned.width} x {turned.height} pixels (width x height), but its "
        f"annotations are for {size[1]} x {size[0]}.",
    )


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode in _SIXTEEN_BITS:
        grey = np.clip(np.asarray(image, np.int64), 0, 2**16 - 1) >> 8
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
    return np.array(image.convert("RGB"))


def _too_much(path: str, found: str, field: str, limit: int) -> ImageError:
    return ImageError(
        path,
        f"{found} (limits.{field}={limit}). To use the image, raise "
        f"task.train_data.limits.{field}, or that of validation_data.",
    )
