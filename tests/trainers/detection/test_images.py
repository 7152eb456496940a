"""Image files of every kind are RGB pixels, or an error that names them."""

import io

import numpy as np
import pytest
from PIL import Image

from trainers.detection.data.configs import ImageLimits
from trainers.detection.data.images import ImageError, decode_image, read_image

LIMITS = ImageLimits()
GREEN = np.array([20, 200, 60], np.uint8)
TURNS = {  # EXIF orientation -> what turns the stored pixels upright
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


@pytest.fixture
def pixels():
    """Smooth, so that JPEG keeps it."""
    y, x = np.mgrid[:24, :40]
    return np.stack([4 * x, 6 * y, 2 * x + 2 * y], axis=-1).astype(np.uint8)


def encode(image, suffix="PNG", **options):
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


def decode(content, **options):
    return decode_image(content, "a/b.jpg", options.pop("limits", LIMITS), **options)


@pytest.mark.parametrize("orientation", TURNS)
def test_images_are_turned_upright(pixels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.fromarray(pixels), exif=exif)
    expected = TURNS[orientation](pixels)
    np.testing.assert_array_equal(decode(content), expected)
    size = expected.shape[:2]
    np.testing.assert_array_equal(decode(content, size=size), expected)


def test_annotations_of_the_stored_pixels_are_recognised_by_the_size(pixels):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(Image.fromarray(pixels), exif=exif)
    np.testing.assert_array_equal(decode(content, size=(24, 40)), pixels)
    with pytest.raises(ImageError, match="is 24 x 40 pixels .* are for 50 x 50"):
        decode(content, size=(50, 50))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "YCbCr"])
def test_every_mode_becomes_rgb(pixels, mode):
    image = Image.fromarray(pixels).convert(mode)
    suffix = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    found = decode(encode(image, suffix))
    assert found.shape == (24, 40, 3) and found.dtype == np.uint8
    tolerance = {"P": 60, "1": 255}.get(mode, 3)
    grey = mode in ("L", "LA", "1")
    expected = np.asarray(image.convert("L"))[..., None] if grey else pixels
    assert np.abs(found.astype(int) - expected).max() <= tolerance
    if grey:
        np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


def test_cmyk_jpegs_have_their_colours():
    image = Image.new("RGB", (32, 32), tuple(GREEN.tolist())).convert("CMYK")
    found = decode(encode(image, "JPEG", quality=95))
    assert np.abs(found.astype(int) - GREEN).max() <= 4


def test_sixteen_bits_become_eight():
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    found = decode(encode(Image.fromarray(values)))
    np.testing.assert_array_equal(found[0, :, 0], [0, 0, 1, 128, 255])


def test_an_image_of_one_pixel_is_read():
    content = encode(Image.new("RGB", (1, 1), (1, 2, 3)))
    np.testing.assert_array_equal(decode(content), [[[1, 2, 3]]])


def test_images_above_a_limit_are_refused_before_they_are_decoded(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (8000, 5000)).save(path)  # 40 megapixels
    with pytest.raises(ImageError, match="8000 x 5000 pixels .limits.pixels=33554432"):
        read_image(str(path), LIMITS)
    small = tmp_path / "small.png"
    Image.new("1", (30, 20)).save(small)
    assert read_image(str(small), ImageLimits(pixels=600)).shape == (20, 30, 3)
    with pytest.raises(ImageError, match="limits.pixels=599"):
        read_image(str(small), ImageLimits(pixels=599))
    with pytest.raises(ImageError, match=r"bytes \(limits.bytes=9\)"):
        read_image(str(path), ImageLimits(bytes=9))


def test_pillows_own_limit_is_an_error_too():
    header = bytearray(encode(Image.new("1", (8, 8))))
    header[16:24] = (60000).to_bytes(4) * 2
    with pytest.raises(ImageError, match="b.jpg: .*"):
        decode(bytes(header))


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP"])
def test_truncated_images_are_errors(pixels, suffix):
    content = encode(Image.fromarray(pixels), suffix)
    for length in (0, 3, 10, len(content) // 2, len(content) * 3 // 4):
        with pytest.raises(ImageError, match=r"a/b.jpg: cannot be decoded \("):
            decode(content[:length])


def test_files_that_are_no_images_are_errors(tmp_path):
    path = tmp_path / "text.jpg"
    path.write_text("no image")
    with pytest.raises(ImageError, match="text.jpg: cannot be decoded"):
        read_image(str(path), LIMITS)
    with pytest.raises(ImageError, match="absent.jpg: cannot be read"):
        read_image(str(tmp_path / "absent.jpg"), LIMITS)


@pytest.mark.hostile
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_damaged_images_are_pixels_or_errors(pixels, suffix):
    random = np.random.default_rng(0)
    content = encode(Image.fromarray(pixels), suffix)
    for _ in range(500):
        damaged = bytearray(content)
        for place in random.integers(len(content), size=random.integers(1, 6)):
            damaged[place] = random.integers(256)
        try:
            assert decode(bytes(damaged)).dtype == np.uint8
        except ImageError:
            pass
