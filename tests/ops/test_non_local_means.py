"""Non-local means, against the equation in float64 and against scikit-image."""

import itertools
import pathlib
import re
import runpy

import keras
import numpy as np
import pytest

from keras_nonlocal import non_local_means
from tests.backends import to_numpy

ROOT = pathlib.Path(__file__).parents[2]


def noisy(*shape, seed=0, noise=0.1):
    """A signal of steps between 0.2 and 0.8, with Gaussian noise."""
    steps = sum(np.indices(shape) // 5) % 2
    random = np.random.default_rng(seed)
    return (0.2 + 0.6 * steps + random.normal(0, noise, shape)).astype("float32")


def equation(image, h, sizes, distances, is_truncated=False):
    """y_i = sum_j w_ij x_j / sum_j w_ij by loops over i and j, `(*axes, C)`.

    With `is_truncated` a weight is 0 where the distance exceeds 5 before the last row.
    """
    *shape, channels = image.shape
    image = image.astype("float64")
    border = [(size // 2, size // 2) for size in sizes]
    padded = np.pad(image, [*border, (0, 0)], mode="reflect")
    kernel = np.ones(())
    for size in sizes:
        r = np.arange(size) - size // 2
        a = (size - 1) / 4 or 1
        kernel = np.multiply.outer(kernel, np.exp(-(r**2) / (2 * a**2)))
    kernel = kernel[..., None] / (kernel.sum() * channels)

    def patch(i):
        return padded[tuple(slice(k, k + n) for k, n in zip(i, sizes, strict=True))]

    y = np.zeros_like(image)
    for i in np.ndindex(*shape):
        window = [
            range(n) if d is None else range(max(k - d, 0), min(k + d + 1, n))
            for k, d, n in zip(i, distances, shape, strict=True)
        ]
        keys = list(itertools.product(*window))
        squares = np.array([kernel * (patch(i) - patch(j)) ** 2 for j in keys]) / h**2
        rows = squares.reshape(len(keys), sizes[0], -1).sum(axis=2)
        weights = np.exp(-rows.sum(axis=1))
        if is_truncated:
            weights[rows[:, :-1].sum(axis=1) > 5] = 0
        y[i] = weights @ np.array([image[j] for j in keys]) / weights.sum()
    return y


CASES = {
    "signal": ((40,), 7, 11),
    "signal, everywhere": ((40,), 5, None),
    "image": ((21, 18), 7, 5),
    "image, everywhere": ((11, 12), 3, None),
    "longer than a tile along one axis": ((5, 30), 3, (9, 2)),
    "video": ((4, 11, 10), 3, 2),
    "patches in frames, all frames": ((4, 12, 10), (1, 3, 3), (None, 2, 2)),
    "a distance of 0": ((9, 9), 3, 0),
    "smaller than the patch": ((2, 3), 7, 11),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("channels", [None, 3])
def test_values_are_those_of_the_equation(name, channels):
    shape, size, distance = CASES[name]
    image = noisy(*shape, *([channels] if channels else []))
    axis = -1 if channels else None
    y = to_numpy(non_local_means(image, 0.1, size, distance, channel_axis=axis))
    sizes, distances = (
        value if isinstance(value, tuple) else (value,) * len(shape)
        for value in (size, distance)
    )
    columns = image if channels else image[..., None]
    expected = equation(columns, 0.1, sizes, distances).reshape(image.shape)
    assert y.dtype == image.dtype
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)


def test_channels_may_be_the_first_axis():
    image = noisy(10, 12, 3)
    last = to_numpy(non_local_means(image, patch_distance=3, channel_axis=-1))
    first = non_local_means(np.moveaxis(image, -1, 0), patch_distance=3, channel_axis=0)
    np.testing.assert_allclose(to_numpy(first), np.moveaxis(last, -1, 0), atol=1e-6)


@pytest.mark.parametrize("scale", [255.0, 1e-3])
def test_units_of_the_image_do_not_matter(scale):
    image = noisy(16, 16)
    expected = to_numpy(non_local_means(image, 0.1, 5, 4))
    scaled = to_numpy(non_local_means(scale * image + scale, 0.1 * scale, 5, 4))
    np.testing.assert_allclose(scaled / scale - 1, expected, atol=1e-5)


def test_images_of_more_tiles_than_are_computed_at_once():
    # 2^22 numbers hold 13 of the 30 tiles of distance 11.
    image = noisy(66, 55, noise=0.05)
    y = to_numpy(non_local_means(image))
    crop = np.s_[30:36, 20:26]  # all of its windows and patches are in the part below
    part = to_numpy(non_local_means(image[10:56, 3:46]))
    np.testing.assert_allclose(y[crop], part[20:26, 17:23], atol=1e-5)
    assert np.abs(y - noisy(66, 55, noise=0)).mean() < 0.02  # 0.04 with the noise


def test_half_precision_is_computed_in_float32():
    image = noisy(16, 16).astype("float16")
    expected = to_numpy(non_local_means(image.astype("float32"), patch_distance=4))
    y = to_numpy(non_local_means(image, patch_distance=4))
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.astype("float32"), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros((4, 4), "uint8")}, r"in floats.*image / 255"),
        ({"image": np.float32(1)}, "at least one axis"),
        ({"image": np.zeros((3,), "float32"), "channel_axis": 0}, "at least one axis"),
        ({"image": np.zeros((0, 4), "float32")}, "at least one axis"),
        ({"h": 0}, "`h` above 0"),
        ({"h": float("nan")}, "`h` above 0"),
        ({"patch_size": 4}, "`patch_size` as an odd int, or 2 of them"),
        ({"patch_size": (3, 3, 3)}, "`patch_size` as an odd int, or 2 of them"),
        ({"patch_distance": -1}, "`patch_distance` as an int from 0"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        non_local_means(**{"image": np.zeros((4, 4), "float32")} | arguments)


# === scikit-image ===


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((48, 40), None), ((32, 36, 3), -1), ((8, 16, 14), None)],
    ids=["grey", "colour", "video"],
)
def test_scikit_image_agrees_on_average(shape, axis):
    """It leaves out weights below about exp(-5), so that single pixels differ."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("once is enough: backends are compared with the equation")
    restoration = pytest.importorskip("skimage.restoration")
    image = noisy(*shape[: 3 if axis is None else 2])
    image = image if axis is None else np.stack([image, 1 - image, image / 2], -1)
    distance = 7 if axis or len(shape) == 2 else 3
    arguments = {"h": 0.1, "patch_size": 5, "patch_distance": distance}
    arguments["channel_axis"] = axis
    expected = restoration.denoise_nl_means(image, fast_mode=False, **arguments)
    difference = np.abs(to_numpy(non_local_means(image, **arguments)) - expected)
    assert difference.mean() < 1e-3
    assert difference.max() < 0.01


def test_scikit_image_differs_where_it_truncates_weights():
    """Truncated in the same way, the equation gives its values."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("once is enough: backends are compared with the equation")
    restoration = pytest.importorskip("skimage.restoration")
    image = np.random.default_rng(0).random((20, 20)).astype("float32")
    arguments = {"h": 0.15, "patch_size": 5, "patch_distance": 4}
    theirs = restoration.denoise_nl_means(image, fast_mode=False, **arguments)
    ours = to_numpy(non_local_means(image, **arguments))
    sizes = 0.15, (5, 5), (4, 4)
    truncated = equation(image[..., None], *sizes, is_truncated=True)[..., 0]
    assert np.abs(truncated - theirs).max() < 0.003  # its exponential
    assert np.abs(ours - theirs).max() > 0.015


# === The example ===


def test_example_draws_an_image_of_ones_own(tmp_path, capsys):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the example is the same")
    image_file = pytest.importorskip("PIL.Image")
    path, output = tmp_path / "steps.png", tmp_path / "pictures.png"
    steps = np.repeat(noisy(30, 30, noise=0)[..., None] * 255, 3, axis=2)
    image_file.fromarray(steps.astype("uint8")).save(path)
    example = runpy.run_path(ROOT / "examples" / "non_local_means.py")
    example["main"]([str(path), "--output", str(output)])
    before, after = re.findall(r"([\d.]+) dB", capsys.readouterr().out)
    assert float(after) > float(before) + 2
    assert output.read_bytes().startswith(b"\x89PNG")


def test_example_names_an_image_that_cannot_be_read(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the example is the same")
    path = tmp_path / "text.png"
    path.write_text("no image")
    example = runpy.run_path(ROOT / "examples" / "non_local_means.py")
    with pytest.raises(SystemExit, match=r"text\.png cannot be read as an image"):
        example["main"]([str(path)])
