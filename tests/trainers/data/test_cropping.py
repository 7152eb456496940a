"""Cutting and then scaling gives what scaling and then cutting would."""

import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image

from trainers.video_classification.data.cropping import (
    ArrayPicture,
    cut_windows,
    scale,
)
from trainers.video_classification.data.views import Window


def picture_of(height, width):
    """Smooth noise: details of about eight pixels, as photographs have."""
    coarse = np.random.default_rng(0).normal(128, 50, (height // 8, width // 8, 3))
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0, 255).astype(np.uint8)


def cut(image, windows):
    size = windows[0].size
    views = np.empty((len(windows), size, size, 3), np.uint8)
    cut_windows(ArrayPicture(image), windows, views)
    return views.astype(int)


def expected(image, window, method):
    scaled = Image.fromarray(image).resize((window.width, window.height), method)
    right, bottom = window.left + window.size, window.top + window.size
    square = np.asarray(scaled.crop((window.left, window.top, right, bottom)))
    return square[:, ::-1] if window.flip else square


@pytest.mark.parametrize(
    "size, scaled",
    [
        ((360, 640), (256, 455)),
        ((360, 640), (311, 553)),
        ((1080, 1920), (256, 455)),
        ((640, 360), (455, 256)),
        ((256, 340), (320, 425)),
        ((256, 340), (257, 341)),
        ((32, 40), (256, 320)),
    ],
)
@pytest.mark.parametrize("place", [(0, 0), (0.37, 0.81), (1, 1)])
def test_it_is_the_window_of_the_scaled_frame(size, scaled, place):
    image = picture_of(*size)
    top, left = (int(u * (side - 224)) for u, side in zip(place, scaled, strict=True))
    window = Window(*scaled, top, left, 224, flip=place == (0, 0))
    difference = cut(image, [window])[0] - expected(image, window, Image.BICUBIC)
    assert abs(difference.mean()) < 0.15
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 42  # half a pixel off: 41


@pytest.mark.parametrize("size", [(250, 250), (360, 271), (451, 300), (224, 300)])
def test_means_over_areas_are_rounded_to_the_nearest_level(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    expected = cv2.resize(image, (224, 223), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(scale(image, 223, 224), expected)


def test_what_is_not_scaled_is_exact():
    image = picture_of(48, 72)
    window = Window(48, 72, 3, 31, 32, flip=True)
    np.testing.assert_array_equal(cut(image, [window])[0], image[3:35, 62:30:-1])


def test_windows_share_one_scaled_piece():
    image = picture_of(360, 640)
    windows = [Window(256, 455, 16, left, 224) for left in (0, 115, 231)]
    views = cut(image, windows)
    np.testing.assert_array_equal(views[0][:, 115:], views[1][:, :-115])
    for view, window in zip(views, windows, strict=True):
        assert np.abs(view - expected(image, window, Image.BICUBIC)).mean() < 1.5


def test_a_shrunk_frame_does_not_alias():
    image = np.zeros((360, 640, 3), np.uint8)
    image[:, ::2] = 255  # lines finer than the scaled frame's pixels
    view = cut(image, [Window(120, 213, 4, 50, 112)])[0]
    assert view.mean() == pytest.approx(127.5, abs=1)
    assert view.std() < 45  # every line is seen by one pixel or the other: 127.5


def test_a_window_may_be_smaller_than_a_pixel():
    image = np.arange(4, dtype=np.uint8).reshape(2, 2, 1).repeat(3, -1) * 80
    window = Window(512, 512, 300, 300, 1)
    assert cut(image, [window]).min() > 160  # near the last pixel, 240


@pytest.mark.parametrize("size", [(1, 65535), (65535, 1), (2, 16000)])
def test_windows_of_very_long_frames_need_little_memory(size):
    # Scaled to a short side of 256, one of them would have 13 GB.
    is_wide = size[0] < size[1]
    pixels = np.random.default_rng(0).integers(0, 255, (max(size), 3), np.uint8)
    image = pixels[None] if is_wide else pixels[:, None]
    image = np.ascontiguousarray(np.broadcast_to(image, (*size, 3)))
    long = 256 * max(size) // min(size)
    scaled = (256, long) if is_wide else (long, 256)
    places = (0, (long - 224) // 2, long - 224)
    windows = [
        Window(*scaled, *((16, place) if is_wide else (place, 16)), 224)
        for place in places
    ]
    tracemalloc.start()
    got = cut(image, windows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6
    lines = got[:, 112] if is_wide else got[:, :, 112]
    assert np.abs(lines[0, 0] - pixels[0].astype(int)).max() <= 1
    assert np.abs(lines[2, -1] - pixels[-1].astype(int)).max() <= 1
