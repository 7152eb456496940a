"""Generates the demo's videos: does the box have the colour of the ball?

    python examples/demo_videos.py OUTPUT [--train 3000] [--val 200] [--test 300]

Every video is one second long. A ball moves; striped curtains cover the view;
then a box moves, anywhere in the frame. The class is `same` if both have the same
colour, `different` if their hues are at least a quarter of the colour circle
apart. Neither colour alone determines the class, nor does a single frame: only the
two together, far apart in space and time.

Written as H.264, one folder per class, the same on every run. Existing files are
kept.
"""

import argparse
import colorsys
import concurrent.futures
import contextlib
import os
import pathlib
import sys

import cv2
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from trainers.core import cli

cli.quiet_start()

from trainers.core.progress import ProgressBar  # noqa: E402
from trainers.video_classification.data import write_video  # noqa: E402

CLASSES = ("different", "same")
SPLITS = {"train": 3000, "val": 200, "test": 300}

NUM_FRAMES, HEIGHT, WIDTH = 18, 64, 80
CURTAIN = slice(7, 11)  # the ball is before it, the box behind it
SIZE = 16  # of the ball and of the box, pixels
MARGIN = 10  # columns on the left and right that a test crop may cut off


def make_video(split: str, number: int) -> tuple[np.ndarray, str]:
    """Makes the frames (T, H, W, 3) uint8 and the class of a numbered video."""
    rng = np.random.default_rng([sorted(SPLITS).index(split), number])
    label = number % 2
    hue = rng.random()
    box_hue = hue if label else hue + rng.uniform(0.25, 0.75)
    frames = np.tile(_background(rng), (NUM_FRAMES, 1, 1, 3))
    _draw_moving(frames[: CURTAIN.start], _ball(), hue, rng)
    _draw_moving(frames[CURTAIN.stop :], np.ones((SIZE, SIZE)), box_hue, rng)
    for frame in frames[CURTAIN]:
        frame += _stripes(rng)
    return np.uint8(np.clip(frames, 0, 1) * 255), CLASSES[label]


def _background(rng):
    """Grey clouds, (H, W, 1)."""
    coarse = rng.uniform(0.1, 0.5, (HEIGHT // 8, WIDTH // 8))
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)[..., None]


def _ball():
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    return (x**2 + y**2 <= (SIZE / 2) ** 2).astype(float)


def _draw_moving(frames, mask, hue, rng):
    """Draws a shape into successive frames, at a constant velocity."""
    color = np.array(colorsys.hsv_to_rgb(hue % 1, 0.9, 1.0))
    low, high = np.array([0, MARGIN]), np.array([HEIGHT, WIDTH - MARGIN]) - SIZE
    start, end = rng.uniform(low, high, (2, 2))
    velocity = np.clip((end - start) / len(frames), -0.7, 0.7)
    mask = mask[..., None]
    for t, frame in enumerate(frames):
        top, left = np.rint(start + velocity * t).astype(int)
        patch = frame[top : top + SIZE, left : left + SIZE]
        patch[:] = patch * (1 - mask) + mask * color


def _stripes(rng):
    period, phase = rng.integers(6, 13), rng.integers(12)
    return 0.5 * ((np.arange(WIDTH) + phase) // period % 2)[None, :, None]


# === Files ===


def write_split(output, split: str, count: int) -> int:
    """Writes the missing videos of a split; returns their number."""
    folder = pathlib.Path(output, split)
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    missing = [n for n in range(count) if not _path(folder, n).exists()]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            videos = pool.map(lambda n: _write(folder, split, n), missing)
            bar = ProgressBar(f"videos, {split}", len(missing), unit="video")
            with contextlib.closing(bar):
                for _ in videos:
                    bar.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return len(missing)


def _path(folder, number):
    return folder / CLASSES[number % 2] / f"{number:05d}.mp4"


def _write(folder, split, number):
    path = _path(folder, number)
    part = path.with_name(f".{path.name}")  # hidden until complete
    frames, _ = make_video(split, number)
    write_video(str(part), frames, fps=NUM_FRAMES)
    os.replace(part, path)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", help="folder to write to")
    for split, count in SPLITS.items():
        parser.add_argument(f"--{split}", type=int, default=count, help="how many")
    options = vars(parser.parse_args(arguments))
    for split in SPLITS:
        written = write_split(options["output"], split, options[split])
        kept = options[split] - written
        print(f"{split}: {written} videos written, {kept} kept.")


if __name__ == "__main__":
    cli.run(main)
