"""Denoises an image by non-local means, the classical non-local operation.

    python examples/non_local_means.py [IMAGE] [--noise 0.1] [--h 0.1] \\
        [--output non_local_means.png]

Adds Gaussian noise to the image, removes it again, and draws both beside the original,
with their peak signal-to-noise ratios. Without IMAGE: a part of a photograph that
scikit-learn has. `--h` is the strength: about the standard deviation of the noise.
"""

import argparse
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_image

from keras_nonlocal import non_local_means


def read_image(path):
    """Floats from 0 to 1, `(H, W, 3)`."""
    if path is None:
        pixels = load_sample_image("china.jpg")[110:310, 200:456]
    else:
        pixels = np.asarray(Image.open(path).convert("RGB"))
    return pixels.astype("float32") / 255


def psnr(image, reference):
    """Peak signal-to-noise ratio in dB, of images from 0 to 1."""
    return -10 * np.log10(np.mean((image - reference) ** 2))


def draw(image, noisy, denoised):
    """The three images in a row."""
    height, width, _ = image.shape
    figure = Figure(figsize=(12, 4.3 * height / width + 0.3), layout="constrained")
    pictures = {
        f"noisy, {psnr(noisy, image):.1f} dB": noisy,
        f"non-local means, {psnr(denoised, image):.1f} dB": denoised,
        "original": image,
    }
    for axes, (title, pixels) in zip(
        figure.subplots(1, 3), pictures.items(), strict=True
    ):
        axes.imshow(pixels.clip(0, 1))
        axes.set_title(title)
        axes.axis("off")
    return figure


def main(argv=None):
    parser = argparse.ArgumentParser(description="Denoises an image.")
    parser.add_argument("image", nargs="?", help="any file that Pillow reads")
    parser.add_argument("--noise", type=float, default=0.1, help="standard deviation")
    parser.add_argument("--h", type=float, default=0.1, help="strength")
    parser.add_argument("--output", default="non_local_means.png")
    args = parser.parse_args(argv)
    try:
        image = read_image(args.image)
    except OSError as error:
        sys.exit(f"error: {args.image} cannot be read as an image ({error}).")
    noise = np.random.default_rng(0).normal(0, args.noise, image.shape)
    noisy = image + noise.astype("float32")
    denoised = np.asarray(non_local_means(noisy, args.h, channel_axis=-1))
    draw(image, noisy, denoised).savefig(args.output, dpi=80)
    print(f"noisy     {psnr(noisy, image):5.2f} dB")
    print(f"denoised  {psnr(denoised, image):5.2f} dB")
    print(f"Written: {args.output}")


if __name__ == "__main__":
    main()
